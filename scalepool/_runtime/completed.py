"""Waiting for whichever of several references, or streams, is ready first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from scalepool._base.clock import monotonic_s
from scalepool._runtime.generators import ObjectRefGenerator
from scalepool._runtime.slots import Bell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["NO_TIME", "Completed", "slots_of"]

T = TypeVar("T")

NO_TIME = "{} of {} values were not there within {} seconds"


def slots_of(values: Values, waitables: Sequence[ObjectRef[Any] | ObjectRefGenerator[Any]]) -> list[Slot]:
    """Return what to watch for each: of a stream, its next value."""
    refs = iter(values.slots([one for one in waitables if not isinstance(one, ObjectRefGenerator)]))
    return [one._slot() if isinstance(one, ObjectRefGenerator) else next(refs) for one in waitables]


class _Over:
    """Those that are over, in this order. It knows nothing of references, which slots would keep alive through it."""

    __slots__ = ("bell", "slots")

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self.slots: deque[Slot] = deque()
        self.bell = Bell(lock)

    def __call__(self, slot: Slot) -> None:
        self.slots.append(slot)
        self.bell.ring()


class Completed(Generic[T]):
    """Iterates, also asynchronously, over references in the order in which they are ready; see ``as_completed``.

    Parameters
    ----------
    values
        Those of the process.
    waitables
        References and streams; each comes once.
    timeout
        Seconds for all of them.
    """

    __slots__ = ("_count", "_deadline", "_over", "_pending", "_timeout", "_values")

    def __init__(self, values: Values, waitables: Iterable[T], timeout: float | None) -> None:
        from scalepool._runtime.values import deadline_of

        each: list[Any] = list(dict.fromkeys(waitables))
        slots = slots_of(values, each)
        self._values = values
        self._timeout = timeout
        self._deadline = deadline_of(timeout)
        self._count = len(each)
        self._pending: dict[Slot, T] = dict(zip(slots, each, strict=True))
        self._over = _Over(values.lock)
        values.watch(slots, self._over)

    def __iter__(self) -> Completed[T]:
        return self

    def __next__(self) -> T:
        if not self._pending:
            raise StopIteration
        over = self._over.slots
        if not over and not self._values.client.wait_for(lambda: bool(over), list(self._pending), self._deadline):
            raise self._late()
        return self._pending.pop(over.popleft())

    def __aiter__(self) -> Completed[T]:
        return self

    async def __anext__(self) -> T:
        if not self._pending:
            raise StopAsyncIteration
        over = self._over
        if not over.slots:
            import asyncio

            from scalepool._runtime.awaiting import until_over

            left = None if self._deadline is None else max(0.0, self._deadline - monotonic_s())
            slot = over.bell.slot(lambda: bool(over.slots))
            try:
                await asyncio.wait_for(until_over(self._values, slot), left)
            except asyncio.TimeoutError:
                raise self._late() from None
        return self._pending.pop(over.slots.popleft())

    def _late(self) -> TimeoutError:
        return TimeoutError(NO_TIME.format(len(self._pending), self._count, self._timeout))
