"""Streams as their reader sees them: references that appear one by one while the task that makes them runs."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from scalepool._runtime.slots import WAITING, Bell
from scalepool._wire import messages as m
from scalepool._wire.messages import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["DynamicObjectRefGenerator", "ObjectRefGenerator", "Stream", "generator_of"]

T = TypeVar("T")

_VALUE: Final = int(Status.VALUE)


class Stream:
    """What the reader's process knows of a stream.

    Parameters
    ----------
    values
        Those of the process.
    end
        The value that says that it has ended, and how.
    limit
        How many values its task may be ahead of the reader.
    """

    __slots__ = ("_bell", "_limit", "_reported", "_taken", "_values", "arrived", "end")

    def __init__(self, values: Values, end: Slot, limit: int) -> None:
        self.end = end
        self.arrived: deque[ObjectRef[Any]] = deque()
        """Values that nobody has taken."""
        self._values = values
        self._limit = limit
        self._taken = 0
        self._reported = 0
        self._bell = bell = Bell(values.lock)
        values.watch([end], lambda _: bell.ring())

    @property
    def name(self) -> str:
        """What errors and references call the task."""
        return self.end.name

    @property
    def is_over(self) -> bool:
        """Whether somebody who wants the next value need not wait for it, or for the news that there is none."""
        return bool(self.arrived) or self.end.is_over

    def add(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Other values have come."""
        self.arrived.extend(refs)
        self._bell.ring()

    def close(self) -> None:
        """Forget what nobody has taken."""
        self.arrived.clear()

    def next_slot(self) -> Slot:
        """Return something to watch that is over when ``is_over``."""
        return self._bell.slot(lambda: self.is_over, self.end.task, self.name)

    def take(self) -> ObjectRef[Any] | None:
        """Take the next value that has come; ``None`` when there is none.

        The task is told now and then: often enough for it never to wait for the news.
        """
        try:
            ref = self.arrived.popleft()
        except IndexError:
            return None
        self._taken += 1
        # What it has in shared memory may be so large that it waits after each.
        slot = self._values.table[ref.id]
        if (self._taken - self._reported) * 4 >= self._limit or slot.status == WAITING or slot.places:
            self._reported = self._taken
            client = self._values.client
            client.outgoing.queue.append(m.Taken(self.end.task, self._taken))
            client.pump.kick(now=True)
        return ref


class ObjectRefGenerator(Generic[T]):
    """What a remote generator function returns: yields a reference for each value, as soon as the task has yielded it.

    ``for ref in gen``, ``next(gen)``, ``async for ref in gen``; also for ``wait`` and ``as_completed``, for which it is
    ready when ``next`` would not wait, and for ``cancel``. Where the task fails, the references to what it has yielded
    stay good, and one more follows that raises the error.

    The task runs ahead of the reader, up to a limit. Dropping this object, or ``close()``, closes the task's generator
    at its next ``yield``: GeneratorExit is raised there, and ``finally`` blocks run.

    Mirrors Ray's ``ObjectRefGenerator``. Different: it cannot be pickled, so only who called the function can read it.
    """

    __slots__ = ("__weakref__", "_end", "_failure_told", "_right", "_stream")

    def __init__(self, stream: Stream, end: ObjectRef[Any], right: ObjectRef[Any]) -> None:
        self._stream = stream
        self._end = end
        self._right: ObjectRef[Any] | None = right
        self._failure_told = False

    def __iter__(self) -> ObjectRefGenerator[T]:
        return self

    def __next__(self) -> ObjectRef[T]:
        return self.next()

    def next(self, timeout: float | None = None) -> ObjectRef[T]:
        """Return the next reference; wait for it.

        Parameters
        ----------
        timeout
            Seconds to wait; ``None``: as long as it takes.

        Raises
        ------
        StopIteration
            When there are no more.
        TimeoutError
            When time was up first; nothing is lost.
        """
        from scalepool._runtime.instance import check_wait
        from scalepool._runtime.values import deadline_of

        deadline = deadline_of(timeout)
        stream = self._stream
        while True:
            ref = self._take()
            if ref is not None:
                return ref
            if stream.end.is_over or self._right is None:
                raise StopIteration
            check_wait([stream.end])
            # Not for its task: that must not run in the place of who reads it, and wait for him there.
            if not self._table().client.wait_for(lambda: stream.is_over, (), deadline):
                raise TimeoutError(f"{stream.name} yielded nothing within {timeout} seconds")

    def _take(self) -> ObjectRef[T] | None:
        """Return the next reference, or the one that says how it failed; ``None`` when there is none now."""
        if self._right is None:
            return None
        values = self._table()
        ref = self._stream.take()
        if ref is None and self._stream.end.is_over:
            ref = self._stream.take()  # which may have come in between
            if ref is None and self._stream.end.status != _VALUE and not self._failure_told:
                self._failure_told = True
                return values.adopt(self._end.id, self._end.id, self._stream.name)
        return ref

    def __aiter__(self) -> ObjectRefGenerator[T]:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        """Return the next reference; other tasks of the event loop run meanwhile."""
        from scalepool._runtime.awaiting import until_over

        while True:
            ref = self._take()
            if ref is not None:
                return ref
            if self._stream.end.is_over or self._right is None:
                raise StopAsyncIteration
            await until_over(self._table(), self._stream.next_slot())

    def completed(self) -> ObjectRef[None]:
        """Return a reference to the end: its value is ``None``, and there when the task has ended, or raises."""
        return self._table().adopt(self._end.id, self._end.id, self._stream.name)

    def close(self) -> None:
        """Read no more: the task's generator is closed at its next ``yield``; what was not taken is forgotten."""
        if self._right is not None:
            client = self._table().client
            self._right = None
            client.pump.kick(now=True)

    def _table(self) -> Values:
        return self._end._table()

    def _slot(self) -> Slot:
        """Return something to watch that is over when ``next`` would not wait."""
        self._table()
        return self._stream.next_slot() if self._right is not None else self._stream.end

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled: only who called the function can read it; pass on the references that it "
            "yields, or use num_returns='dynamic'"
        )

    def __repr__(self) -> str:
        end = self._stream.end
        return f"<ObjectRefGenerator {end.task} of {end.name}: {'running' if end.status == WAITING else end.state}>"


def generator_of(refs: Sequence[ObjectRef[Any]]) -> ObjectRefGenerator[Any]:
    """Return the reader of a stream that was just submitted, given its end and the right to read it."""
    end, right = refs
    return ObjectRefGenerator(end._table().streams[end.id], end, right)


class DynamicObjectRefGenerator(Generic[T]):
    """The value of a call with ``num_returns="dynamic"``: the references to all that it yielded, in order.

    Mirrors Ray's class of that name. Different: it can be iterated any number of times.
    """

    __slots__ = ("_refs",)

    def __init__(self, refs: list[ObjectRef[T]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: int) -> ObjectRef[T]:
        return self._refs[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return DynamicObjectRefGenerator, (self._refs,)

    def __repr__(self) -> str:
        return f"<DynamicObjectRefGenerator of {len(self._refs)} references>"
