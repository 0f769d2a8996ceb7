"""A queue that any task, actor or program of a session can put into and get from: it lives in an actor of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from scalepool._runtime.peers import own_number
from scalepool.actors import ActorHandle, kill
from scalepool.errors import ActorDiedError
from scalepool.tasks import ObjectRef, cancel, get, remote
from scalepool.util.queue_actor import Empty, Full, QueueActor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Empty", "Full", "Queue"]

T = TypeVar("T")

_CALLS_MAX: Final = 1_000_000
"""Calls of the actor that may be under way at once: as many may wait in ``get`` and ``put``."""
_ANSWER_S: Final = 5.0


_Actor: Final[Any] = remote(QueueActor)


class Queue(Generic[T]):
    """A first-in first-out queue in an actor, with the methods of ``queue.Queue``; travels as an argument.

    Mirrors ``ray.util.queue.Queue``. Who waits in ``get`` or ``put`` polls nothing. Items are served in order, and so
    are those who wait. An item that a worker was given and that died before it had got it, and one that a ``get`` was
    given that was interrupted, is the next item again; one of a worker that died within moments of having got it may
    be, too. The queue ends with ``shutdown``, when its last handle is gone, or with its actor's process; then all calls
    raise ActorDiedError.

    Parameters
    ----------
    maxsize
        How many items it may hold; 0 or less: any number.
    actor_options
        Options of the actor, as in ``.options(...)`` of an actor class: ``{"name": "jobs", "lifetime": "detached"}``.

    Attributes
    ----------
    actor
        A handle of the actor.
    maxsize
        As given.
    """

    def __init__(self, maxsize: int = 0, actor_options: Mapping[str, Any] | None = None) -> None:
        given: object = maxsize
        if not isinstance(given, int) or isinstance(given, bool):
            raise TypeError(f"maxsize must be an int, not {maxsize!r}")
        options = {"max_concurrency": _CALLS_MAX, **(actor_options or {})}
        self.maxsize = maxsize
        self.actor: ActorHandle = _Actor.options(**options).remote(maxsize)

    # ---- what is there ----

    def qsize(self) -> int:
        """Return how many items there are now."""
        return int(get(self.actor.qsize.remote()))

    def size(self) -> int:
        """Return the same; Ray's name for it."""
        return self.qsize()

    def __len__(self) -> int:
        return self.qsize()

    def empty(self) -> bool:
        """Whether there is no item now."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there is no room now."""
        return self.maxsize > 0 and self.qsize() >= self.maxsize

    # ---- putting ----

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item; wait for room.

        Parameters
        ----------
        item
            Anything that can be pickled. It is unpickled in the actor; large arrays are not copied there.
        block
            False: do not wait.
        timeout
            Seconds to wait; ``None``: as long as it takes.

        Raises
        ------
        Full
            When there is no room, or none in time: a subclass of ``queue.Full``.
        ValueError
            When ``timeout`` is negative.
        ActorDiedError
            When the queue is no more.
        """
        if not block:
            self.put_nowait_batch([item])
            return
        ref = self.actor.put.remote((item,), _checked(timeout), own_number())
        try:
            get(ref)
        except BaseException as error:
            if not isinstance(error, Exception):  # interrupted: it is put, or it is not and never will be
                cancel(ref)
            raise

    async def put_async(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Do the same in an event loop, which goes on meanwhile."""
        if not block:
            await self.actor.put_all.remote([item])
            return
        ref = self.actor.put.remote((item,), _checked(timeout), own_number())
        try:
            await ref
        except asyncio.CancelledError:
            await _in_thread(lambda: cancel(ref))
            raise

    def put_nowait(self, item: T) -> None:
        """Put an item, or raise Full."""
        self.put_nowait_batch([item])

    def put_nowait_batch(self, items: Iterable[T]) -> None:
        """Put all of these items in a row, or, where they do not all fit, raise Full and put none."""
        get(self.actor.put_all.remote(list(items)))

    # ---- getting ----

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item; wait for one.

        Parameters
        ----------
        block
            False: do not wait.
        timeout
            Seconds to wait; ``None``: as long as it takes.

        Raises
        ------
        Empty
            When there is none, or none in time: a subclass of ``queue.Empty``.
        ValueError
            When ``timeout`` is negative.
        ActorDiedError
            When the queue is no more.
        """
        if not block:
            return self.get_nowait()
        ref = self.actor.get.remote(_checked(timeout), own_number())
        (item,) = self._received(ref, one=True)
        return item

    async def get_async(self, block: bool = True, timeout: float | None = None) -> T:
        """Do the same in an event loop, which goes on meanwhile."""
        if not block:
            (loan,) = await self.actor.get_all.remote(1, own_number())
            (item,) = self._kept([loan])
            return item
        ref = self.actor.get.remote(_checked(timeout), own_number())
        try:
            loan = await ref
        except asyncio.CancelledError:
            await _in_thread(lambda: self._return(ref, one=True))
            raise
        (item,) = self._kept([loan])
        return item

    def get_nowait(self) -> T:
        """Take the first item, or raise Empty."""
        return self.get_nowait_batch(1)[0]

    def get_nowait_batch(self, num_items: int) -> list[T]:
        """Take so many items, or, where there are fewer, raise Empty and take none.

        Raises
        ------
        TypeError, ValueError
            When ``num_items`` is no int, or negative.
        """
        if not isinstance(num_items, int):
            raise TypeError("'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        return self._received(self.actor.get_all.remote(num_items, own_number()), one=False)

    def _received(self, ref: ObjectRef[Any], *, one: bool) -> list[T]:
        try:
            found = get(ref)
        except BaseException as error:
            if not isinstance(error, Exception):  # interrupted: what has been taken meanwhile is the next item again
                self._return(ref, one=one)
            raise
        return self._kept([found] if one else found)

    def _kept(self, loans: Sequence[tuple[int, T]]) -> list[T]:
        """Say that these have been received."""
        numbers = [number for number, _ in loans if number]
        if numbers:
            self.actor.has_it.options(num_returns=0).remote(numbers)
        return [item for _, item in loans]

    def _return(self, ref: ObjectRef[Any], *, one: bool) -> None:
        """Nobody will use what this call gets, or has got."""
        if cancel(ref):
            return
        try:
            found = get(ref, timeout=_ANSWER_S)
        except Exception:  # noqa: BLE001 - it has got nothing
            return
        self.actor.give_back.options(num_returns=0).remote([found] if one else found)

    # ---- the end ----

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue: what is in it is gone, and who waits for it gets an ActorDiedError.

        Parameters
        ----------
        force
            True: at once. Else what this process has put before is taken in first.
        grace_period_s
            Seconds that this may take.
        """
        if not force:
            with suppress(ActorDiedError, TimeoutError):
                get(self.actor.qsize.remote(), timeout=grace_period_s)
        kill(self.actor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.maxsize, self.actor)

    def __repr__(self) -> str:
        return f"<scalepool.util.Queue maxsize={self.maxsize} {self.actor!r}>"


def _rebuild(maxsize: int, actor: ActorHandle) -> Queue[Any]:
    made: Queue[Any] = Queue.__new__(Queue)
    made.maxsize = maxsize
    made.actor = actor
    return made


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


async def _in_thread(do: Callable[[], Any]) -> None:
    """Do something that may block, in a thread, while the caller is being cancelled."""
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, do))
