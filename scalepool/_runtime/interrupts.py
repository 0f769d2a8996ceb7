"""Ctrl-C must not tear the hub in two.

A SIGINT becomes a KeyboardInterrupt between any two bytecodes of the main thread. While that thread pumps, it may be
halfway through a decision of the hub; interrupted there, a task could lose its end. So while the main thread does the
pump's work an interrupt is only noted, and raised when the work is done, microseconds later. While it waits the
interrupt comes through at once. A handler that the user installed is left alone.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["Deferral"]


# The module below ``signal``: its functions take and return plain integers, at a tenth of the price: 2 against 17 us
# for setting a handler twice, on every blocking call.
_plain: Any = sys.modules["_signal"]
_SIGINT = int(signal.SIGINT)


class Deferral:
    """A context in which SIGINT is deferred while ``working`` is set. Costs a microsecond; does nothing elsewhere."""

    __slots__ = ("_installed", "_noted", "working")

    def __init__(self) -> None:
        self.working = False
        self._noted = False
        self._installed = False

    def __enter__(self) -> Deferral:  # noqa: PYI034 - Self is in typing from 3.11
        is_main = threading.get_ident() == threading.main_thread().ident
        if is_main and not self._installed and _plain.getsignal(_SIGINT) is signal.default_int_handler:
            self._installed = True
            _plain.signal(_SIGINT, self._on_interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed and threading.get_ident() == threading.main_thread().ident:
            self._installed = False
            _plain.signal(_SIGINT, signal.default_int_handler)
            self.raise_noted()

    def _on_interrupt(self, number: int, frame: FrameType | None) -> Any:
        if self.working:
            self._noted = True
        else:
            signal.default_int_handler(number, frame)

    def raise_noted(self) -> None:
        """Raise the KeyboardInterrupt that came while ``working`` was set, if one did."""
        if self._noted:
            self._noted = False
            raise KeyboardInterrupt
