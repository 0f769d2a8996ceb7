"""What ``apply_async`` and ``map_async`` return.

`ApplyResult` stands on one future. `MapResult` stands on a `Settlement`: the one outcome of a call of many tasks.
Waiting in either waits *in a future*, so the waiting thread does the socket work and, inside a task, lends its slot.

A call with callbacks is ready only when its callback has run, as in the original.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Protocol

from scalepool._shims.interrupted import in_slices
from scalepool.api import cancel
from scalepool.multiprocessing.errors import error_of, timeout_error

if TYPE_CHECKING:
    from scalepool._shims.callbacks import CallbackThread
    from scalepool.api import TaskFuture

__all__ = ["ApplyResult", "AsyncResult", "CallbackResult", "Feeder", "MapResult", "Settlement", "wait_for"]

Callback = Callable[[Any], object]


def wait_for(future: TaskFuture, timeout_s: float | None) -> bool:
    """Wait until `future` is done and tell whether it is; never raises the task's own error."""
    return future.wait_until_over(timeout_s)


class Settlement:
    """The outcome of one call: given to its callbacks first and to its waiters then.

    Parameters
    ----------
    callbacks
        Thread for the user's code.
    callback, error_callback
        As in ``map_async``; one of them is called, once.

    Attributes
    ----------
    on_settled
        Called when everything is over, before waiters wake; quick.
    event
        Set when everything is over.
    """

    def __init__(self, callbacks: CallbackThread, callback: Callback | None, error_callback: Callback | None) -> None:
        self.success = True
        self.value: Any = None
        self.event = threading.Event()
        self.on_settled: Callable[[], None] | None = None
        self._callbacks = callbacks
        self._callback = callback
        self._error_callback = error_callback

    def settle(self, success: bool, value: Any, last_words: Callable[[bool], object] | None = None) -> None:
        """Set the outcome.

        Parameters
        ----------
        success, value
            The result, or ``False`` and the exception.
        last_words
            What goes before the callbacks (the final progress report); it is told whether user code may run.
        """
        self.success, self.value = success, value
        callback = self._callback if success else self._error_callback
        self._callback = self._error_callback = None
        if callback is None and last_words is None:
            self._finish()
            return

        def deliver(run_user_code: bool) -> None:
            try:
                if last_words is not None:
                    last_words(run_user_code)
                if run_user_code and callback is not None:
                    callback(value)
            finally:
                self._finish()

        self._callbacks.post(deliver)

    def later(self, action: Callable[[], object]) -> None:
        """Run `action` in the callback thread: it may block, which a callback of a future must not."""

        def deliver(_run_user_code: bool) -> None:
            action()

        self._callbacks.post(deliver)

    def _finish(self) -> None:
        on_settled, self.on_settled = self.on_settled, None
        if on_settled is not None:
            on_settled()
        self.event.set()


class ApplyResult:
    """Result of ``Pool.apply_async``; also known as ``AsyncResult``.

    Mirrors ``multiprocessing.pool.ApplyResult``. Made by pools only.

    Parameters
    ----------
    future
        The task.
    """

    __slots__ = ("__weakref__", "_future")  # one is made for every call; the classes below have a __dict__

    def __init__(self, future: TaskFuture) -> None:
        self._future = future

    def ready(self) -> bool:
        """Return whether the call has completed."""
        return self._future.done()

    def successful(self) -> bool:
        """Return whether the call completed without raising.

        Raises
        ------
        ValueError
            When it is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error() is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is available or `timeout` seconds have passed."""
        wait_for(self._future, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result when it arrives.

        Parameters
        ----------
        timeout
            Seconds to wait at most.

        Raises
        ------
        multiprocessing.TimeoutError
            When the time is up.
        BaseException
            The exception of the task. After ``terminate()``: `TaskCancelledError` (the original waits for ever).
        """
        future = self._future
        if future.has_value:  # it has one already where many calls are made before the first result is asked for
            return future.result()
        try:
            self._await(timeout)
            return future.result()
        finally:
            del self, future  # a traceback must not keep the error alive that it belongs to, and all arguments with it

    def _await(self, timeout: float | None) -> None:
        """Wait until there is a value; raises as `get` does."""
        try:
            self.wait(timeout)
        except KeyboardInterrupt as interrupt:
            raise interrupt.with_traceback(None) from None  # without the frames of ours below this one
        if not self.ready():
            raise timeout_error()
        error = self._error()
        if error is not None:
            try:
                raise error
            finally:
                del error, self  # breaks the cycle error -> traceback -> this frame -> error

    @property
    def output(self) -> str | None:
        """What the call has printed so far, stdout and stderr; ``None`` without ``Pool(capture_output=True)``."""
        return self._future.output

    def cancel(self, force: bool = False) -> bool:
        """Cancel the call; the original has nothing like it. Its ``get()`` then raises `TaskCancelledError`.

        Parameters
        ----------
        force
            Stop what has started, too: its worker gets SIGTERM, and SIGKILL half a second later; another takes its
            place, and nothing else is lost.

        Returns
        -------
        Whether it is cancelled. Of many items: whether some were still to come.
        """
        return self._future.cancel(force)

    def _error(self) -> BaseException | None:
        future = self._future
        return None if future.has_value else error_of(future)

    def _abandon(self) -> None:
        """Take the call back, or stop it: nobody can get its result any more."""
        cancel([self._future], force=True)

    __class_getitem__: classmethod[Any, Any, GenericAlias] = classmethod(GenericAlias)


AsyncResult = ApplyResult


class CallbackResult(ApplyResult):
    """Result of an ``apply_async`` with callbacks: ready when the callback has run.

    Parameters
    ----------
    settlement
        Runs the callbacks.
    """

    def __init__(self, settlement: Settlement) -> None:
        self._settlement = settlement
        self._attached: TaskFuture | None = None

    def attach(self, future: TaskFuture) -> None:
        """Name the future to wait in."""
        self._attached = future

    @property
    def output(self) -> str | None:
        """As of an `ApplyResult`."""
        return None if self._attached is None else self._attached.output

    def arrived(self, future: TaskFuture) -> None:
        """Take the outcome of the finished `future`."""
        try:
            error = error_of(future)
        except Exception as trouble:  # noqa: BLE001 - the task's error fights back: that is the outcome then
            error = trouble
        self._settlement.settle(error is None, future.result() if error is None else error)

    def cancel(self, force: bool = False) -> bool:
        """Cancel the call; with `force` also when it runs. Return whether it is cancelled."""
        return self._attached is not None and self._attached.cancel(force)

    def drain(self) -> None:
        """Wait until everything is over, callbacks too."""
        self.wait()

    def abort(self) -> None:
        """Nothing of this call is still to be submitted."""

    def ready(self) -> bool:
        """Return whether the call and its callback have completed."""
        return self._settlement.event.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the callback has run or `timeout` seconds have passed."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        if self._attached is not None:
            wait_for(self._attached, timeout)
        event = self._settlement.event
        in_slices(event.wait, event.is_set, remaining_s(deadline_s))

    def get(self, timeout: float | None = None) -> Any:
        """As of an `ApplyResult`."""
        try:
            self._await(timeout)
            return self._settlement.value
        finally:
            del self  # as there

    def _error(self) -> BaseException | None:
        return None if self._settlement.success else self._settlement.value

    def _abandon(self) -> None:
        if self._attached is not None:
            cancel([self._attached], force=True)


class Feeder(Protocol):
    """What a `MapResult` needs of the job behind it."""

    def wait(self, timeout_s: float | None) -> None:
        """Wait in the job's futures until its outcome is settled."""

    def abandon(self, force: bool | None = None) -> bool:
        """Settle, and cancel what has not started, with `force` what has, too; False when it was over.

        ``None``: somebody else cancels it soon.
        """

    @property
    def output(self) -> str | None:
        """What its chunks have printed, in input order."""


class MapResult(ApplyResult):
    """Result of ``Pool.map_async`` and ``Pool.starmap_async``.

    Mirrors ``multiprocessing.pool.MapResult``. Made by pools only.

    Parameters
    ----------
    settlement
        The outcome.
    feeder
        The job that feeds the chunks; ``None`` when there is nothing to run.
    """

    def __init__(self, settlement: Settlement, feeder: Feeder | None) -> None:
        self._settlement = settlement
        self._feeder = feeder

    def ready(self) -> bool:
        """Return whether the call and its callback have completed."""
        return self._settlement.event.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every chunk has come, and the callback has run, or `timeout` seconds have passed."""
        if self._feeder is not None and not self.ready():
            try:
                self._feeder.wait(timeout)
            except KeyboardInterrupt as interrupt:
                raise interrupt.with_traceback(None) from None  # without the frames of ours below this one

    @property
    def output(self) -> str | None:
        """What finished chunks have printed, in input order; ``None`` without ``Pool(capture_output=True)``."""
        return None if self._feeder is None else self._feeder.output

    def get(self, timeout: float | None = None) -> Any:
        """As of an `ApplyResult`."""
        try:
            self._await(timeout)
            return self._settlement.value
        finally:
            del self  # as there

    def _error(self) -> BaseException | None:
        return None if self._settlement.success else self._settlement.value

    def cancel(self, force: bool = False) -> bool:
        """Cancel what has not started, with `force` also what runs. Return whether there was anything left to do."""
        return self._feeder is not None and self._feeder.abandon(force)

    def _abandon(self) -> None:
        if self._feeder is not None:
            self._feeder.abandon(force=True)


def remaining_s(deadline_s: float | None) -> float | None:
    """Return the seconds left until a monotonic deadline, never negative; ``None`` when there is none."""
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
