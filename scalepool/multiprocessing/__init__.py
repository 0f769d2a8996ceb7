"""``multiprocessing`` on scalepool's workers: change the import, keep the code.

Scalepool's own: `Pool`, `cpu_count`, `freeze_support`, `get_context`. Every other public name is the standard
library's, looked up when it is first used, so that importing this package stays light. Locks, queues and shared values
are those of its ``spawn`` context: processes that were not forked by this one, such as a pool's workers, can open no
others.
"""

from __future__ import annotations

from scalepool.api import cpu_count as cpu_count
from scalepool.api import freeze_support as freeze_support
from scalepool.multiprocessing.pool import Pool as Pool
from scalepool.multiprocessing.sharing import SHARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import *  # type: ignore[assignment] # noqa: F403  # these names are ours
    from typing import Any

    from scalepool.multiprocessing.context import get_context as get_context

_OWN = ("Pool", "cpu_count", "freeze_support", "get_context")


def __getattr__(name: str) -> Any:
    if name == "get_context":
        from scalepool.multiprocessing.context import get_context

        value: Any = get_context
    elif name in SHARED:
        import multiprocessing

        value = getattr(multiprocessing.get_context("spawn"), name)
    elif name == "__all__":
        import multiprocessing

        value = sorted({*multiprocessing.__all__, *_OWN})
    elif name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        import multiprocessing

        try:
            value = getattr(multiprocessing, name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    import multiprocessing

    return sorted({*dir(multiprocessing), *_OWN})
