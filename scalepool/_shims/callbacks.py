"""One helper thread that runs a pool's user callbacks, in the order in which calls completed.

Completion is noticed in whichever thread pumps; that thread must not run user code. So it posts a *delivery* here. The
thread starts with the first delivery and ends with `stop`; it refers to no pool, so it keeps none alive.

A delivery is called with ``True``, or with ``False`` after `discard`: then it must skip the user's code and only tell
its waiters.
"""

from __future__ import annotations

import sys
import threading

# The plain C queue: the module above it is another millisecond of each start.
from _queue import SimpleQueue
from collections.abc import Callable

__all__ = ["CallbackThread"]

Delivery = Callable[[bool], None]


class CallbackThread:
    """Runs deliveries one after the other.

    Parameters
    ----------
    name
        Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._mail = _Mailbox()
        self._lock = threading.RLock()  # re-entrant: a garbage collection inside may come back through stop()
        self._thread: threading.Thread | None = None

    def post(self, delivery: Delivery) -> None:
        """Queue `delivery`; never blocks. After `stop` it is dropped to its waiters at once."""
        with self._lock:
            if not self._mail.closed:
                if self._thread is None:
                    self._thread = threading.Thread(target=_run, args=(self._mail,), name=self._name, daemon=True)
                    self._thread.start()
                self._mail.queue.put(delivery)
                return
        delivery(False)

    def discard(self) -> None:
        """Skip the user's code in everything that has not begun."""
        self._mail.discarding = True

    def stop(self) -> None:
        """End the thread once what is queued is done. Safe to call twice and from the thread itself."""
        with self._lock:
            if not self._mail.closed:
                self._mail.closed = True
                if self._thread is not None:
                    self._mail.queue.put(None)

    def join(self) -> None:
        """Wait until the thread has ended; returns at once in the thread itself."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def is_current(self) -> bool:
        """Tell whether the caller is a callback."""
        return threading.current_thread() is self._thread


class _Mailbox:
    """What the thread and its owner share."""

    __slots__ = ("closed", "discarding", "queue")

    def __init__(self) -> None:
        self.queue: SimpleQueue[Delivery | None] = SimpleQueue()
        self.discarding = False
        self.closed = False


def _run(mail: _Mailbox) -> None:
    while True:
        delivery = mail.queue.get()
        if delivery is None:
            return
        try:
            delivery(not mail.discarding)
        except BaseException:  # noqa: BLE001 - shown, see below
            # The user's callback failed. The original's thread would die of it and every later call would hang: here
            # the error is shown as any thread's is, and the next delivery has its turn.
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        del delivery
