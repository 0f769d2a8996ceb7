"""The future of one task: a real ``concurrent.futures.Future`` that costs a tenth of one.

``Future`` builds a Condition and two lists for each object (1.8 us); most futures are never waited for by anybody but
``result()``, which pumps instead. So the Condition is built when somebody first asks for it, and ``wait``,
``as_completed``, ``asyncio.wrap_future`` and done callbacks work as ever.
"""

from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scalepool._runtime.client import Client

__all__ = ["TaskFuture"]

_PENDING: Final = "PENDING"
_RUNNING: Final = "RUNNING"
_CANCELLED: Final = "CANCELLED"
_CANCELLED_AND_NOTIFIED: Final = "CANCELLED_AND_NOTIFIED"
_FINISHED: Final = "FINISHED"
_OVER: Final = frozenset({_CANCELLED, _CANCELLED_AND_NOTIFIED, _FINISHED})

# Guards two moments only: building a future's Condition, and ending a future that has none.
_guard = threading.Lock()
_LOOK_S: Final = 0.05
_LOOKS: Final = 40
_LOGGER: Final = logging.getLogger("concurrent.futures")


class TaskFuture(Future[Any]):
    """The future of one submitted task. Made by ``WorkerGroup.submit``; users do not construct it.

    Attributes
    ----------
    task_id
        The task's number in its session.
    duration_s
        Seconds that the worker spent in the function; ``None`` until it is done.
    size_bytes
        Size of the pickled arguments; once there is a value, of what brought it here (not of what it has in shared
        memory).
    name
        Name of the function.
    """

    task_id: int = 0
    duration_s: float | None = None
    size_bytes: int = 0
    _client: Client | None = None
    _lazy: threading.Condition | None = None
    _output: str = ""
    _result: Any = None
    _exception: BaseException | None = None

    def __init__(
        self,
        client: Client | None = None,
        group: Any = None,
        on_done: Callable[[TaskFuture], None] | None = None,
        name: str = "",
    ) -> None:
        # On purpose without super().__init__(): that would build the Condition.
        self._state = _PENDING
        self._client = client
        self.group = group
        self._on_done = on_done
        self.name = name

    # ---- what concurrent.futures reads ----

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # an attribute there, made on demand here
        lazy = self._lazy
        if lazy is None:
            with _guard:
                if self._lazy is None:
                    self._waiters: list[Any] = []
                    self._done_callbacks: list[Callable[[Any], object]] = []
                    self._lazy = threading.Condition()
                lazy = self._lazy
            client = self._client
            if client is not None and self._state not in _OVER:
                client.attend()  # somebody may wait outside the pump from now on
        return lazy

    @property
    def is_over(self) -> bool:
        """Whether the result is there; like ``done()`` without taking a lock."""
        return self._state in _OVER

    @property
    def has_value(self) -> bool:
        """Whether the task is over and returned something."""
        return self._state == _FINISHED and self._exception is None

    def done(self) -> bool:
        """Whether the task ended or was cancelled."""
        return self._state in _OVER

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._state in (_CANCELLED, _CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        """Whether a worker is in the task's function now."""
        client = self._client
        return self._state == _RUNNING or (self._state == _PENDING and client is not None and client.is_running(self))

    def cancel(self, force: bool = False) -> bool:
        """Cancel the task unless it has started; also when a worker has it waiting. Return whether it is cancelled.

        Parameters
        ----------
        force
            Stop it even if it has started: its worker gets SIGTERM, and SIGKILL half a second later; another takes its
            place, and no other task is lost. Returns when that is done. The original has no such parameter.
        """
        if self._state in (_CANCELLED, _CANCELLED_AND_NOTIFIED):
            return True
        client = self._client
        if self._state != _FINISHED and client is not None:
            client.cancel([self], force=force)
        return self.cancelled()

    def lost_item(self, status: int, verdict: bytes) -> BaseException:
        """Return the error of an item of this task's input that was given up while the rest of it ran."""
        from scalepool._runtime.failures import error_of

        return error_of(self.group.errors, self.name, status, verdict)

    def result(self, timeout: float | None = None) -> Any:
        """Return what the task returned.

        Raises what the task raised; CancelledError when it was cancelled; TimeoutError after ``timeout`` seconds.
        """
        if self._state != _FINISHED:
            self._check(self.wait_until_over(timeout))
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                del self  # the traceback must not keep the future alive
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task raised, ``None`` when it returned; raises as ``result`` does otherwise."""
        if self._state != _FINISHED:
            self._check(self.wait_until_over(timeout))
        return self._exception

    def wait_until_over(self, timeout_s: float | None = None) -> bool:
        """Wait; return whether it is over, and not that time was up first."""
        client = self._client  # None once it is over, which it may be by now
        if client is not None and self._state not in _OVER:
            deadline = None if timeout_s is None else monotonic_s() + max(0.0, timeout_s)
            try:
                client.wait_for(self.done, (self,), deadline)
            except KeyboardInterrupt as interrupt:
                raise interrupt.with_traceback(None) from None  # without the frames of ours below this one
        return self._state in _OVER

    def _check(self, is_over: bool) -> None:
        """Raise what there is to raise when a wait has ended like this, and no result has come."""
        if not is_over:
            raise FutureTimeoutError
        if self._state != _FINISHED:
            raise CancelledError

    @property
    def output(self) -> str | None:
        """What the task has printed so far, stdout and stderr; ``None`` where its pool does not capture that."""
        return self._output if self._output or getattr(self.group, "captures", False) else None

    def add_output(self, text: bytes) -> None:
        """The task printed this."""
        self._output += text.decode("utf-8", "surrogatepass")

    # ---- ended by the client ----

    def settle_cancelled(self) -> None:
        """The task was cancelled before it started."""
        self.settle(None, None, _CANCELLED_AND_NOTIFIED)

    def settle(self, value: Any, error: BaseException | None, state: str = _FINISHED) -> None:
        """The task ended: wake whoever waits, then run the callbacks. Does nothing when it was ended before."""
        with _guard:
            lazy = self._lazy
            if lazy is None:
                if self._state in _OVER:
                    return
                self._result = value
                if error is not None:
                    self._exception = error
                self._state = state
        if lazy is not None:
            taken = _take(lazy)
            try:
                if self._state in _OVER:
                    return
                self._result = value
                self._exception = error
                self._state = state
                self._tell_waiters()
                if taken:
                    lazy.notify_all()
            finally:
                if taken:
                    lazy.release()
            self._invoke_callbacks()  # type: ignore[attr-defined]
        self._client = None
        on_done = self._on_done
        if on_done is not None:
            self._on_done = None
            try:
                on_done(self)
            except Exception:  # as concurrent.futures does with callbacks: one that fails must not stop the others
                _LOGGER.exception("exception calling callback for %r", self)

    def _tell_waiters(self) -> None:
        for waiter in self._waiters:
            if self._state == _CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(self)
            elif self._exception is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)

    def __reduce__(self) -> Any:
        raise TypeError("a future cannot be pickled; pass its result, or submit from where the future is")


def _take(condition: threading.Condition) -> bool:
    """Take a future's condition; False when nobody has it, and yet it is taken.

    The standard's ``wait`` and ``as_completed`` leave it so when the handler of a signal raises in them just then.
    They are over; who settles the future must not wait for them.
    """
    for _ in range(_LOOKS):
        if condition.acquire(timeout=_LOOK_S):
            return True
        if not _somebody_runs(Future.result.__code__.co_filename):
            break
    return condition.acquire(blocking=False)


def _somebody_runs(filename: str) -> bool:
    """Whether any other thread is in a function of this file."""
    for thread, frame in sys._current_frames().items():
        at: FrameType | None = frame
        while at is not None and thread != threading.get_ident():
            if at.f_code.co_filename == filename:
                return True
            at = at.f_back
    return False
