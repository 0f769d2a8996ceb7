"""What a session has to say to its user."""

from __future__ import annotations

from typing import Final

from scalepool._runtime.output import show

__all__ = ["Notes"]

_FOLD_S: Final = 60.0
_REMEMBERED: Final = 64


class Notes:
    """Shows notes on stderr. One that repeats itself, as of workers that cannot be started, comes once a minute."""

    __slots__ = ("_again_at",)

    def __init__(self) -> None:
        self._again_at: dict[str, float] = {}

    def show(self, text: str, now_s: float) -> bool:
        """Show a note; False when the same was shown a short while ago."""
        if now_s < self._again_at.get(text, now_s):
            return False
        self._again_at[text] = now_s + _FOLD_S
        if len(self._again_at) > _REMEMBERED:
            del self._again_at[next(iter(self._again_at))]
        show(2, f"scalepool: {text}\n")
        return True
