"""Processes that a task forks end when they leave the task: what comes after it is their parent's to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from scalepool._runtime.executor import Executor
    from scalepool._store.flight import FlightRecord

__all__ = ["end_who_leaves"]

_TOLD = b"scalepool: a process that a task had forked returned from the task; it should end by os._exit\n"


class _Left:
    """In place of the flight record in such a process: what a task does when it is over is where it ends."""

    def __getattr__(self, name: str) -> NoReturn:
        try:
            os.write(2, _TOLD)
        finally:
            os._exit(1)


def end_who_leaves(executor: Executor) -> None:
    """Have processes that are forked from this one end where the executor notes that their task is over."""

    def in_child() -> None:
        left: Any = _Left()
        executor.flight = cast("FlightRecord", left)

    os.register_at_fork(after_in_child=in_child)
