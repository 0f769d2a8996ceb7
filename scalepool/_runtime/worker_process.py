"""What a worker process does to itself before anything else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from scalepool._base.gpus import VISIBLE
from scalepool._proc import child
from scalepool._proc.context import ProcessContext
from scalepool._proc.marked import MARK
from scalepool._proc.tracker import use_tracker
from scalepool._runtime.randomness import seed_from_os
from scalepool._wire.pickling.exchange import Exchange, install, sender_number
from scalepool._wire.pickling.importable import by_value_modules
from scalepool.config import THREAD_VARIABLES

if TYPE_CHECKING:
    from scalepool._runtime.spec import WorkerConfig

__all__ = ["set_up_process"]


def set_up_process(config: WorkerConfig) -> None:
    """Take over the client's surroundings, and be known by a name."""
    limits = {name: os.environ[name] for name in (*THREAD_VARIABLES, MARK) if name in os.environ}
    if config.spec.gpus >= 0:
        limits[VISIBLE] = ",".join(config.gpus)
    context = ProcessContext.decode(config.spec.context)
    context.apply(limits)
    by_value_modules().look_from(context.cwd, context.sys_path)
    finder = None
    if config.code:
        from scalepool._runtime.travel.finder import install_finders

        finder = install_finders(config.code)
    exchange = Exchange(sender_number(bytes.fromhex(config.token), config.worker))
    install(exchange)
    main_module = exchange.namespaces.install_main()
    if context.main_path:
        main_module.__file__ = context.main_path
        if finder is not None and not os.path.exists(context.main_path):  # noqa: PTH110 - pathlib is a heavy import
            from scalepool._runtime.travel.finder import MainSource

            main_module.__loader__ = MainSource(finder)  # type: ignore[assignment]  # all that is asked of it
    seed_from_os()
    use_tracker(child.tracker_fd)
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        current = process.current_process()
        current._identity = (config.worker,)
        current.name = f"{config.spec.name}-{config.worker}"
