"""What an executor has in hand, apart from the executor: it goes on when the executor object is gone.

The standard library's promises that this keeps: work that was handed over is finished, also when nobody holds the
executor any more, after ``shutdown(wait=False)``, and at the end of the program.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from scalepool.api import cancel as cancel_all
from scalepool.errors import InitializerError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool.api import Function, Snapshot, TaskFuture, Terms, WorkerGroup
    from scalepool.concurrent.futures._feeder import Feeder

__all__ = ["Work"]


class Work:
    """The tasks, the ``map`` calls in progress and the workers of one executor.

    Parameters
    ----------
    group
        The executor's view on the workers.
    workers
        How many calls it runs at once.
    may_break
        Whether it has an initializer, whose failure breaks it.
    """

    def __init__(self, group: WorkerGroup, workers: int, *, may_break: bool) -> None:
        self.group = group
        self.workers = workers
        self.broken = ""
        self.is_shut_down = False
        self.has_begun = False
        # The collector may end the executor, and so come in here, while this thread is inside.
        self._lock = threading.RLock()
        self._unfinished: set[TaskFuture] = set()
        self._feeds: set[Feeder] = set()
        # Looking into each result costs time; only an initializer can break an executor.
        self._on_done = self._settled_or_broken if may_break else self._settled
        _register(self)

    # ---- taking work ----

    def check_open(self) -> None:
        """Raise what the standard library raises when no more work is taken."""
        if self.broken:
            from concurrent.futures.process import BrokenProcessPool

            raise BrokenProcessPool(self.broken)
        if _exit.begun:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self.is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def submit(
        self,
        function: Function | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        then: Callable[[TaskFuture], None] | None = None,
        snapshot: Snapshot | None = None,
        terms: Terms | None = None,
    ) -> Future[Any]:
        """Hand one call over. Does not ask whether the executor is open: its ``map`` calls go on when it closes."""
        self.has_begun = True
        settled = self._on_done

        def settled_then(future: TaskFuture) -> None:
            settled(future)
            if then is not None:
                then(future)

        on_done = settled if then is None else settled_then
        future = self.group.submit(function, args, kwargs, on_done=on_done, snapshot=snapshot, terms=terms)
        self._unfinished.add(future)
        if future.done():  # it may have ended before it was noted
            self._unfinished.discard(future)
            return _with_original_error(future)
        return future

    def _settled(self, future: TaskFuture) -> None:
        self._unfinished.discard(future)

    def _settled_or_broken(self, future: TaskFuture) -> None:
        self._unfinished.discard(future)
        if self.broken or future.cancelled():
            return
        error = future.exception()
        if isinstance(error, InitializerError):
            self.broken = f"A process in the process pool could not start: {error}"
            self._cut_feeds()

    # ---- map calls ----

    def begin_feed(self, feed: Feeder) -> None:
        """Keep the workers open for a ``map`` call."""
        with self._lock:
            self._feeds.add(feed)
            closing = self.is_shut_down
        if closing:  # shutdown() came in between
            feed.finish()

    def end_feed(self, feed: Feeder) -> None:
        """All of its inputs are handed over, or given up."""
        with self._lock:
            self._feeds.discard(feed)
            is_last = self.is_shut_down and not self._feeds
        if is_last:
            self.group.close()

    def _cut_feeds(self) -> None:
        for feed in self._open_feeds():
            feed.cut()

    def _open_feeds(self) -> list[Feeder]:
        with self._lock:
            return list(self._feeds)

    # ---- the end ----

    def shut_down(self, *, cancel: bool = False) -> None:
        """Take no more work; what is pending is finished, or cancelled."""
        with self._lock:
            self.is_shut_down = True
            feeds = list(self._feeds)
        for feed in feeds:
            feed.cut() if cancel else feed.finish()
        if cancel:
            cancel_all(list(self._unfinished))
        if not feeds:
            self.group.close()

    def shut_down_at_exit(self) -> None:
        """Finish the work of a program that ends."""
        with self._lock:
            self.is_shut_down = True
            feeds = list(self._feeds)
        for feed in feeds:
            feed.finish_unless_read()
        if not feeds:
            self.group.close()
        self.join()

    def let_go(self) -> None:
        """The executor was collected. Does next to nothing, since the collector may call it at any moment.

        The group closes itself when nobody holds it any more: neither a feeder nor an unfinished call.
        """
        self.is_shut_down = True

    def join(self, timeout: float | None = None) -> None:
        """Wait until all work is finished; `timeout` in seconds counts from when it is handed over."""
        try:
            for feed in self._open_feeds():
                feed.join()
            if self.is_shut_down:
                self.group.close()  # not yet done where the executor was collected: see let_go()
            self.group.join(timeout)
        except KeyboardInterrupt as interrupt:
            raise interrupt.with_traceback(None) from None  # without the frames of ours below this one

    def stop_workers(self, *, kill: bool) -> None:
        """Cancel what has not started and stop the workers that run the rest."""
        self.shut_down(cancel=True)
        self.group.terminate(kill=kill)

    def end_after_interrupt(self, *, wait: bool) -> None:
        """Kill the workers for a caller who is about to raise KeyboardInterrupt: another one ends its waits."""
        from scalepool._shims.interrupted import see_through

        see_through(lambda: self.shut_down(cancel=True), lambda: self.group.terminate(kill=True))
        if wait:
            see_through(self.join)

    def has_unfinished(self) -> bool:
        """True once a call was handed over and has not ended."""
        return bool(self._unfinished)


def _with_original_error(future: TaskFuture) -> Future[Any]:
    """Return a future that fails as in the standard library when it is the arguments that do not pickle.

    What pickling raised is on top, so that ``except`` clauses match; our error, which names the culprit, is its cause.
    Most of what pickle raises is a TypeError, and so is our error: then it is on top itself.
    """
    error = None if future.cancelled() else future.exception()
    original = error.__cause__ if isinstance(error, SerializationError) else None
    if error is None or original is None or isinstance(error, type(original)):
        return future
    error.__cause__ = None
    original.__cause__ = error
    failed: Future[Any] = Future()
    failed.output = future.output  # type: ignore[attr-defined]
    failed.set_exception(original)
    return failed


class _Exit:
    """Whether the interpreter has begun to end."""

    begun = False


_exit = _Exit()
_living: weakref.WeakSet[Work] = weakref.WeakSet()


def _register(work: Work) -> None:
    _living.add(work)


def _finish_all() -> None:
    _exit.begun = True
    if _ended_by_an_interrupt():
        _stop_all()
        return
    try:
        for work in list(_living):
            work.shut_down_at_exit()
    except KeyboardInterrupt as interrupt:
        _stop_all()
        raise interrupt.with_traceback(None) from None


def _stop_all() -> None:
    for work in list(_living):
        work.end_after_interrupt(wait=False)


def _ended_by_an_interrupt() -> bool:
    """Whether a Ctrl-C that nobody caught ends the program: then it is not to wait for what it was about to do.

    In an interactive session the last error says nothing about why it ends.
    """
    kind = getattr(sys, "last_type", None)
    is_interactive = hasattr(sys, "ps1") or sys.flags.interactive
    return isinstance(kind, type) and issubclass(kind, KeyboardInterrupt) and not is_interactive


# As the standard library does: before threads are joined and before atexit, so that threads and sessions still work.
# The function is private to CPython, hence the second choice.
_register_at_exit: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
_register_at_exit(_finish_all)
