"""``seed=`` of a map: every item gets its position, and a function that seeds the generators for it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["is_numbered", "seeded"]


def seeded(
    fn: Callable[..., Any], items: Iterable[Any], seed: Any, *, star: bool = False, length: int | None = None
) -> tuple[Callable[..., Any], Iterable[Any]]:
    """Return a function of one argument, and the items that it is to be called with.

    Parameters
    ----------
    fn, items
        What the user gave. The items are not touched before the result is iterated.
    seed
        See `scalepool.api.Seed.of`.
    star
        Each item is a tuple of arguments.
    length
        Number of items; the result has it too.

    Raises
    ------
    TypeError, ValueError
        When `seed` is none.
    """
    from scalepool.api import Seed, SeededCall

    call = SeededCall(fn, Seed.of(seed), star)
    return call, _Numbered(items) if length is None else _SizedNumbered(items, length)


def is_numbered(iterables: tuple[Iterable[Any], ...]) -> bool:
    """Tell whether these are the items of a seeded map."""
    return len(iterables) == 1 and isinstance(iterables[0], _Numbered)


class _Numbered:
    """An iterable of (position, item)."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._items)


class _SizedNumbered(_Numbered):
    def __init__(self, items: Iterable[Any], length: int) -> None:
        super().__init__(items)
        self._length = length

    def __len__(self) -> int:
        return self._length
