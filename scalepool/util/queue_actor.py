"""The actor that a `Queue` is: who waits for an item or for room, and what is on its way to a worker."""

from __future__ import annotations

import asyncio
import os
import queue
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from scalepool._runtime.peers import watch_peers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Empty", "Full", "QueueActor"]


class Empty(queue.Empty):
    """There is nothing to get, or was nothing in time."""


class Full(queue.Full):
    """There is no room to put something, or was none in time."""


class _Waiter:
    """A call of ``get`` or ``put`` that waits, and of which process it is."""

    __slots__ = ("future", "item", "peer")

    def __init__(self, peer: int, item: Any = None) -> None:
        self.peer = peer
        self.item = item
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def outcome(self, timeout: float | None, late: Callable[[], BaseException]) -> Any:
        """Wait until it is settled; raise ``late()`` when that takes longer than ``timeout`` seconds."""
        if timeout is None:
            return await self.future
        timer = asyncio.get_running_loop().call_later(timeout, self._expire, late)
        try:
            return await self.future
        finally:
            timer.cancel()

    def _expire(self, late: Callable[[], BaseException]) -> None:
        if not self.future.done():
            self.future.set_exception(late())


class QueueActor:
    """The queue itself. All of it runs on one event loop, so each step between two ``await`` is one step.

    What was handed to a worker is *lent* until that says that it has it: should it die first, it is the next item
    again. Who waits is served in order.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        self._getters: deque[_Waiter] = deque()
        self._putters: deque[_Waiter] = deque()
        self._lent: dict[int, tuple[int, Any]] = {}
        """By a number: to which worker, and what."""
        self._loans = 0
        self._gone: set[int] = set()
        """Workers that are dead; calls of theirs may still come."""
        loop = asyncio.get_running_loop()
        watch_peers(lambda peer: loop.call_soon_threadsafe(self._bury, peer))

    # ---- what is there ----

    def qsize(self) -> int:
        """How many items there are."""
        return len(self._items)

    def _room(self) -> int | None:
        """How many items fit; None: any number."""
        return self._maxsize - len(self._items) if self._maxsize > 0 else None

    def _settle(self) -> None:
        """Bring items, and those who wait for them or for room, together."""
        while True:
            if self._items and self._getters:
                getter = self._getters.popleft()
                if not getter.future.done():
                    getter.future.set_result(self._lend(getter.peer, self._items.popleft()))
            elif self._putters and self._room() != 0:
                putter = self._putters.popleft()
                if not putter.future.done():
                    self._items.append(putter.item)
                    putter.future.set_result(None)
            else:
                return

    def state(self) -> dict[str, int]:
        """Return how many wait, what was lent and not yet confirmed, and where it lives; for who looks for trouble."""
        return {
            "getters": len(self._getters),
            "putters": len(self._putters),
            "lent": len(self._lent),
            "pid": os.getpid(),
        }

    # ---- putting ----

    async def put(self, boxed: tuple[Any], timeout: float | None, peer: int) -> None:
        """Wait for room, and put an item."""
        waiter = _Waiter(peer, boxed[0])
        self._putters.append(waiter)
        self._settle()
        try:
            await waiter.outcome(timeout, Full)
        except BaseException:
            _remove(self._putters, waiter)
            raise

    async def put_all(self, items: Sequence[Any]) -> None:
        """Put all items now, or none of them."""
        room = self._room()
        if room is not None and (len(items) > room or self._putters):
            if len(items) == 1:
                raise Full
            raise Full(
                f"Cannot add {len(items)} items to queue of size {len(self._items)} and maxsize {self._maxsize}."
            )
        self._items.extend(items)
        self._settle()

    # ---- getting ----

    async def get(self, timeout: float | None, peer: int) -> tuple[int, Any]:
        """Wait for an item; return it with the number of the loan, 0 for none."""
        if peer in self._gone:
            raise Empty
        waiter = _Waiter(peer)
        self._getters.append(waiter)
        self._settle()
        try:
            return await waiter.outcome(timeout, Empty)  # type: ignore[no-any-return]
        except BaseException:
            _remove(self._getters, waiter)
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                self._take_back(future.result())
            raise

    async def get_all(self, number: int, peer: int) -> list[tuple[int, Any]]:
        """Get so many items now, or none at all."""
        if number > len(self._items):
            if number == 1:
                raise Empty
            raise Empty(f"Cannot get {number} items from queue of size {len(self._items)}.")
        taken = [self._lend(peer, self._items.popleft()) for _ in range(number)]
        self._settle()
        return taken

    def _lend(self, peer: int, item: Any) -> tuple[int, Any]:
        if not peer:  # the driver: if that dies, so does the session
            return 0, item
        self._loans += 1
        self._lent[self._loans] = peer, item
        return self._loans, item

    def _take_back(self, loan: tuple[int, Any]) -> None:
        """Nobody has got this item."""
        self._lent.pop(loan[0], None)
        self._items.appendleft(loan[1])
        self._settle()

    async def has_it(self, loans: Sequence[int]) -> None:
        """A worker has got what was lent to it."""
        for loan in loans:
            self._lent.pop(loan, None)

    async def give_back(self, loans: Sequence[tuple[int, Any]]) -> None:
        """Whoever has got these was interrupted before he could use them."""
        for loan in reversed(loans):
            self._take_back(loan)

    def _bury(self, peer: int) -> None:
        """A worker is gone: what it had not got yet is for others; what it wanted to put, it has put."""
        self._gone.add(peer)
        for waiter in self._getters:
            if waiter.peer == peer:
                waiter.future.cancel()
        loans = [(loan, item) for loan, (borrower, item) in self._lent.items() if borrower == peer]
        for one in reversed(loans):
            self._take_back(one)


def _remove(waiters: deque[_Waiter], waiter: _Waiter) -> None:
    with suppress(ValueError):  # it was served
        waiters.remove(waiter)
