"""The errors that are also a ``BrokenProcessPool``.

A module of their own because importing the standard library's process pool costs some 20 ms, which only a program whose
worker died has to pay.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback

from scalepool.errors import InitializerError, TaskCancelledError, WorkerDiedError

__all__ = ["BrokenProcessPool", "InitializerFailed", "RemoteTraceback", "Terminated", "WorkerDied"]

#: What carries the worker's traceback text, as in the standard library.
RemoteTraceback = _RemoteTraceback


class WorkerDied(WorkerDiedError, BrokenProcessPool):
    """The worker that ran this call died. Only that call fails: the executor lives on."""


class InitializerFailed(InitializerError, BrokenProcessPool):
    """The executor's ``initializer`` raised; as in the standard library the executor is broken from then on."""


class Terminated(TaskCancelledError, BrokenProcessPool):
    """``kill_workers`` or ``terminate_workers`` ended this call, as in Python 3.14."""
