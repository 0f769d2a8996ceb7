"""The fresh interpreter of one run: ``python -m scalepool.bench.run_one ORDER FD``.

ORDER is JSON, see `main`. What is found goes to the file descriptor FD as one line of JSON. Nothing that a library or
a worker prints can get into it, as no child inherits it across ``exec`` and nobody else knows its number.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from scalepool.bench.run import Run, WrongResultError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool.bench.model import Workload

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run what is ordered; return the exit code.

    The order has the keys ``catalogue`` ("module:attribute" of a mapping from names to workloads), ``workload``,
    ``candidate``, ``workers`` and ``sizes``.
    """
    order, fd = json.loads(arguments[0]), int(arguments[1])
    os.set_inheritable(fd, False)
    try:
        answer = _run(order)
    except WrongResultError as error:
        answer = {"error": f"wrong result: {error}"}
    line = json.dumps(answer) + "\n"
    os.write(fd, line.encode())
    return 0


def _run(order: Mapping[str, Any]) -> dict[str, Any]:
    module, _, attribute = order["catalogue"].partition(":")
    workload: Workload = getattr(importlib.import_module(module), attribute)[order["workload"]]
    if workload.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    run = Run(order["candidate"], order["workers"], order["sizes"])
    workload.adapters[run.candidate](run)
    section = run.section
    return {
        "values": run.values,
        "tasks": run.tasks,
        "wall_s": section.wall_s if section else None,
        "cpu_s": section.cpu_s if section else None,
        "memory_bytes": run.memory_bytes,
        "baseline_bytes": run.baseline_bytes,
        "extra_unit_bytes": run.extra_unit_bytes,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
