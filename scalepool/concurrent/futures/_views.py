"""What ``executor._processes`` holds: private in the standard library, but read by many programs."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from scalepool.api import WorkerInfo
    from scalepool.concurrent.futures._work import Work

__all__ = ["ProcessView", "process_views"]

#: A worker may be waited for, but not by us (it is no child of this process), so ``join`` looks now and then.
POLL_S: Final = 0.005


class ProcessView:
    """One worker process, as far as ``multiprocessing.Process`` is asked about it.

    Attributes
    ----------
    pid, name
        As in ``multiprocessing.Process``.
    """

    __slots__ = ("_work", "_worker")

    def __init__(self, worker: WorkerInfo, work: Work) -> None:
        self._worker = worker
        self._work = work

    @property
    def pid(self) -> int:
        """The process id."""
        return self._worker.pid

    @property
    def name(self) -> str:
        """The worker's name."""
        return self._worker.name

    @property
    def exitcode(self) -> int | None:
        """None while the process lives; negative when a signal ended it."""
        return self._worker.exitcode

    def is_alive(self) -> bool:
        """Tell whether the process lives."""
        return self._worker.is_alive()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended or, since workers outlive their executor, this executor has.

        Parameters
        ----------
        timeout
            Seconds to wait at most.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_alive() and not (self._work.is_shut_down and not self._work.has_unfinished()):
            if deadline is not None and time.monotonic() >= deadline:
                return
            time.sleep(POLL_S)

    def _send(self, number: signal.Signals) -> None:
        if self.is_alive():
            os.kill(self.pid, number)

    def __repr__(self) -> str:
        return f"<ProcessView {self.name} pid={self.pid} {'alive' if self.is_alive() else f'exitcode={self.exitcode}'}>"


def process_views(work: Work) -> dict[int, ProcessView]:
    """Return the executor's workers by pid; waits for the first one when there is a call for it."""
    workers = work.group.workers()
    if not workers and work.has_unfinished():
        work.group.start()  # calls start workers, but in the background, and who asks wants to see one
        workers = work.group.workers()
    return {worker.pid: ProcessView(worker, work) for worker in workers}
