"""Identical lines that come fast become one line with a count. Pure: the time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["Folder"]

WINDOW_S: Final = 1.0
"""Repetitions within so many seconds are folded."""
SHOWN_FIRST: Final = 3
"""So many of them are shown first: three workers that say the same are no flood."""
REMEMBERED: Final = 256
"""Different lines that are watched at once."""


class _Line:
    __slots__ = ("folded", "shown", "since_s")

    def __init__(self, now: float) -> None:
        self.since_s = now
        self.shown = 1
        self.folded = 0


class Folder:
    """Folds the lines of one stream, whichever workers they come from.

    Attributes
    ----------
    due_at
        When ``flush`` has something to say although nothing more was printed; ``None``: it has not.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._in_line = False
        self.due_at: float | None = None

    def take(self, text: str, now: float) -> str:
        """Return what of ``text`` is to be shown, and counts that are due."""
        shown = [] if self.due_at is None or now < self.due_at else [self.flush(now)]
        for line in _lines_of(text):
            if self._in_line or not line.endswith("\n") or line.isspace():
                shown.append(line)  # a part of a line is nothing to compare
                self._in_line = not line.endswith("\n")
            elif self._is_new(line, now):
                shown.append(line)
        while len(self._lines) > REMEMBERED:
            shown.insert(0, _summary(*self._lines.popitem(last=False)))
        return "".join(shown)

    def _is_new(self, line: str, now: float) -> bool:
        known = self._lines.get(line)
        if known is None or (now - known.since_s >= WINDOW_S and not known.folded):
            self._lines[line] = _Line(now)
            self._lines.move_to_end(line)
            return True
        if known.shown < SHOWN_FIRST:
            known.shown += 1
            return True
        known.folded += 1
        due_at = known.since_s + WINDOW_S
        self.due_at = due_at if self.due_at is None else min(self.due_at, due_at)
        return False

    def flush(self, now: float, *, everything: bool = False) -> str:
        """Return the counts that are due, or all of them."""
        if self._in_line and not everything:
            self.due_at = now + WINDOW_S
            return ""
        said = ["\n"] if self._in_line and any(known.folded for known in self._lines.values()) else []
        self.due_at = None
        for line, known in list(self._lines.items()):
            if now - known.since_s < WINDOW_S and not everything:
                if known.folded:
                    due_at = known.since_s + WINDOW_S
                    self.due_at = due_at if self.due_at is None else min(self.due_at, due_at)
            elif known.folded:
                said.append(_summary(line, known))
                known.since_s, known.folded = now, 0  # a flood that goes on is said once in each window
            else:
                del self._lines[line]
        return "".join(said)


def _lines_of(text: str) -> list[str]:
    """Cut behind each newline, and nowhere else."""
    *lines, rest = text.split("\n")
    return [line + "\n" for line in lines] + ([rest] if rest else [])


def _summary(line: str, known: _Line) -> str:
    return f"... repeated {known.folded} times: {line}" if known.folded else ""
