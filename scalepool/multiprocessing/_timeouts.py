"""The error of a task that ran too long, as ``multiprocessing`` would have it.

A module of its own because importing ``multiprocessing`` costs time, which only a program that sees one has to pay.
"""

from __future__ import annotations

from multiprocessing import TimeoutError as MultiprocessingTimeout

from scalepool.errors import TaskTimeoutError

__all__ = ["TaskTimeout"]


class TaskTimeout(TaskTimeoutError, MultiprocessingTimeout):
    """The task ran longer than its ``task_timeout``. Also ``multiprocessing``'s own ``TimeoutError``."""
