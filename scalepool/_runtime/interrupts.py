"""A signal must not tear the hub in two.

A handler runs between any two bytecodes of the main thread, and may raise: SIGINT's as a matter of course, a time
limit's SIGALRM, a service's SIGTERM. While that thread pumps, it may be halfway through a decision of the hub, or hold
the role that everybody else needs; interrupted there, a task could lose its end. So from the moment it begins to pump a
signal with a handler in Python is only noted, and handled when the work is done, microseconds later. While the thread
waits for something to arrive the handler runs at once.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    Handler = Callable[[int, FrameType | None], Any]

__all__ = ["Deferral"]


# The module below ``signal``: its functions take and return plain integers, at a tenth of the price: 2 against 17 us
# for setting a handler twice, on every blocking call.
_plain: Any = sys.modules["_signal"]
_NAMES: Final = (
    "SIGINT", "SIGALRM", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGVTALRM",
)  # fmt: skip
_NUMBERS: Final = tuple(int(getattr(_plain, name)) for name in _NAMES if hasattr(_plain, name))
"""Those that programs handle. To ask for one handler takes 40 ns, so not for all 64 on every blocking call."""
_get: Final = _plain.getsignal
_main_thread = threading.main_thread().ident
"""Asked for several times in each blocking call, and it only changes where another thread than this one forks."""


def _forked() -> None:
    global _main_thread  # noqa: PLW0603 - there is one main thread in a process
    _main_thread = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Deferral:
    """A context in which handlers wait while ``working`` is set, as it is at first. Does nothing in other threads.

    It may be entered again inside, where handlers wait again, and from any number of threads.

    Attributes
    ----------
    working
        Whether a handler has to wait now. Cleared, by the main thread, around what may take long.
    """

    __slots__ = ("_handler", "_noted", "_outer", "_replaced", "working")

    def __init__(self) -> None:
        self.working = False
        self._noted: dict[int, Handler] = {}
        self._replaced: dict[int, Handler] = {}
        self._outer: list[bool] = []
        """Of each context around the innermost one: whether handlers had to wait there."""
        self._handler = self._on_signal  # one object, so that it can be recognized

    @property
    def applies(self) -> bool:
        """Whether this is the main thread, inside the context."""
        return bool(self._replaced) and threading.get_ident() == _main_thread

    def __enter__(self) -> Deferral:  # noqa: PYI034 - Self is in typing from 3.11
        if threading.get_ident() != _main_thread:
            return self
        outer, self.working = self.working, True  # first: from here on no handler can raise
        if self._replaced:
            self._outer.append(outer)
        else:
            try:
                for number, handler in zip(_NUMBERS, map(_get, _NUMBERS), strict=True):
                    if handler.__class__ is not int and callable(handler):  # a number: nothing in Python handles it
                        self._replaced[number] = handler
                        _plain.signal(number, self._handler)
            except BaseException:  # the handler of one that had not been replaced yet
                self._restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._replaced and threading.get_ident() == _main_thread:
            if self._outer:
                self.working = self._outer.pop()
            else:
                self._restore()
            if self._noted and not self.working:
                self.raise_noted()

    def open(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what may take long, or is the user's: meanwhile handlers do not wait."""
        if not self.applies:
            return function(*args, **kwargs)
        outer, self.working = self.working, False
        try:
            self.raise_noted()
            return function(*args, **kwargs)
        finally:
            self.working = outer

    def _restore(self) -> None:
        replaced = self._replaced
        try:
            for number, handler in list(replaced.items()):
                if _get(number) is self._handler:  # else the user's code has set another meanwhile
                    _plain.signal(number, handler)
                del replaced[number]
            self.working = False
        finally:
            if replaced:  # the handler of one that was back already has raised
                self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> Any:
        handler = self._replaced.get(number)
        if handler is None:  # called by what kept it although its time is over
            return
        if self.working:
            self._noted[number] = handler
        else:
            handler(number, frame)

    def raise_noted(self) -> None:
        """Call the handlers of signals that came while ``working`` was set; one may raise, and the rest waits."""
        while self._noted:
            number = next(iter(self._noted))
            self._noted.pop(number)(number, sys._getframe())
