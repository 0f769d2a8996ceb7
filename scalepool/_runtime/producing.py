"""Streams as their task sees them: values go to the hub as they are made, fast ones together, never too far ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.packing import part_of
from scalepool._wire import messages as m
from scalepool._wire.payload import dumps_scalar

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator

    from scalepool._runtime.values import Values

__all__ = ["Producer", "in_turn"]

_SCALAR_BYTES: Final = 4096
_END: Final = object()
_TOGETHER_S: Final = 0.001
"""Values that are made within so short a time after each other may travel together, and wait for each other so long."""
_IN_A_ROW: Final = 16
"""How many of them in a row are each sent at once before."""
_BATCH: Final = 64


class Producer:
    """One attempt of a task to make its stream.

    Parameters
    ----------
    values
        Those of the process.
    task, attempt
        As its worker got it.
    limit
        How many values it may be ahead of the reader.

    Attributes
    ----------
    sent
        How many values were sent, by all tries of this attempt.
    is_closed
        Whether nobody wants any more.
    wake
        Called when that, or the room, has changed.
    """

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_in_a_row",
        "_index",
        "_limit",
        "_made_at",
        "_sent_at",
        "_taken",
        "_values",
        "attempt",
        "is_closed",
        "sent",
        "task",
        "wake",
    )

    def __init__(self, values: Values, task: int, attempt: int, limit: int) -> None:
        self.task = task
        self.attempt = attempt
        self.sent = 0
        self.is_closed = False
        self.wake: Callable[[], object] | None = None
        """Tells an event loop that something has changed."""
        self._values = values
        self._limit = limit
        self._index = 0
        self._taken = 0
        self._ahead: deque[int] = deque()
        self._ahead_bytes = 0
        self._in_a_row = 0
        self._made_at = self._sent_at = 0.0

    def run(self, made: Iterable[Any]) -> None:
        """Send all of ``made``; raises what it raises. Closed early, it closes what it iterates over."""
        self._index = 0
        self._values.producers[self.task] = self
        iterator = iter(made)
        try:
            for value in iterator:
                self.send(value)
                # Not ahead of this: what the function does after its last allowed ``yield`` waits, too.
                if not self._wait():
                    break
        finally:
            del self._values.producers[self.task]
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    async def run_async(self, made: Any) -> None:
        """Do the same on an event loop, which goes on while there is no room."""
        self._index = 0
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        self.wake = lambda: loop.call_soon_threadsafe(event.set)
        self._values.producers[self.task] = self
        iterator = aiter(made) if hasattr(made, "__aiter__") else _side_by_side(made)
        try:
            async for value in iterator:
                self.send(value)
                while not self.may_go_on:
                    self._values.client.pump.kick(now=True)
                    event.clear()
                    if not self.may_go_on:
                        await event.wait()
                if self.is_closed:
                    break
        finally:
            del self._values.producers[self.task]
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    def send(self, value: object) -> None:
        """Send the next value, unless a try before this one has sent it.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        index = self._index
        self._index += 1
        if index < self.sent or self.is_closed:
            return
        client = self._values.client
        data = dumps_scalar(value, _SCALAR_BYTES)
        references: Any = ()
        objects: list[int] = []
        size_bytes = 0
        if data is None:
            packed = client.packer.pack_value(value, label=f"item {index}")
            data, references, size_bytes = packed.data, part_of(packed).references, packed.size_bytes
            objects = [number for segment in packed.segments for number in segment]
        self.sent += 1
        if index >= self._taken:  # else it is sent again, by another attempt
            self._ahead.append(size_bytes)
            self._ahead_bytes += size_bytes
        queue = client.outgoing.queue
        value_id = client.new_object_id()
        queue.append(m.Yield(self.task, self.attempt, index, (value_id,), (data,), references, objects))
        unsent = client.outgoing.unsent
        may_wait = self._may_wait(len(queue)) and not (references or objects)
        if may_wait and unsent is not None and unsent.keep(self.task, self.attempt, index, value_id, data):
            client.pump.kick(now=False)  # the tick thread sends it, if nothing else does before
            return
        client.pump.kick(now=True)
        if queue:  # another thread was about to send: it, or this one, does so before anything else happens here
            client.pump.wait_for(lambda: not queue)

    def _may_wait(self, queued: int) -> bool:
        """Whether the value need not be sent now: where one comes right after the other, and the last was just sent."""
        now = monotonic_s()
        self._in_a_row = self._in_a_row + 1 if now - self._made_at < _TOGETHER_S else 0
        self._made_at = now
        if self._in_a_row >= _IN_A_ROW and queued < _BATCH and now - self._sent_at < _TOGETHER_S:
            return True
        self._sent_at = now
        return False

    def note_taken(self, taken: int) -> None:
        """The reader has taken so many; -1: it wants no more."""
        if taken < 0:
            self.is_closed = True
        else:
            self._taken = max(self._taken, taken)
            while self._ahead and self.sent - len(self._ahead) < taken:
                self._ahead_bytes -= self._ahead.popleft()
        if self.wake is not None:
            self.wake()

    @property
    def may_go_on(self) -> bool:
        """Whether the next value may be made, or none ever again."""
        has_room = len(self._ahead) < self._limit and self._ahead_bytes < self._values.client.limit_bytes
        return has_room or not self._ahead or self.is_closed

    def _wait(self) -> bool:
        """Wait for room; the worker's slot is lent meanwhile. False when nobody wants any more."""
        if not self.may_go_on:
            self._values.client.wait_for(lambda: self.may_go_on, (), None)
        return not self.is_closed


async def _side_by_side(made: Iterable[Any]) -> AsyncIterator[Any]:
    """Iterate over what is no asynchronous generator; others have their turn between two items."""
    iterator = iter(made)
    try:
        for value in iterator:
            yield value
            await asyncio.sleep(0)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def in_turn(made: AsyncIterable[Any]) -> Iterator[Any]:
    """Iterate over an asynchronous generator, in an event loop that runs while it makes its next item."""
    loop = asyncio.new_event_loop()
    iterator = aiter(made)

    async def one() -> Any:
        try:
            return await anext(iterator)
        except StopAsyncIteration:
            return _END

    async def finish() -> None:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        for task in left:
            with suppress(asyncio.CancelledError, Exception):
                await task

    try:
        while (value := loop.run_until_complete(one())) is not _END:
            yield value
    finally:
        try:
            loop.run_until_complete(finish())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
