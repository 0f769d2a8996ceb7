"""A pool of actors that share the work of one caller."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from scalepool.actors import ActorHandle
from scalepool.errors import ActorDiedError
from scalepool.tasks import ObjectRef, get, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ActorPool"]

V = TypeVar("V")

_NO_MORE: Final = "No more results to get"
_NO_TIME: Final = "Timed out waiting for result"


class ActorPool(Generic[V]):
    """Hands calls to whichever of some actors is idle.

    Mirrors ``ray.util.ActorPool``: an actor has one call at a time, and is idle again when the result of that has been
    asked for. Different: an actor that has died is taken out of the pool when the result of its call is asked for,
    which raises ActorDiedError, so that no further call is wasted on it. When the last one has died, the calls that
    waited for an actor raise that error, too, until ``push`` brings another one. An actor that begins anew (of a class
    with ``max_restarts``) stays.

    Parameters
    ----------
    actors
        Handles of the actors. None of them may be there twice.

    Raises
    ------
    TypeError
        When there is something else among them.
    ValueError
        When one is there twice.
    """

    def __init__(self, actors: Iterable[ActorHandle]) -> None:
        self._idle: list[ActorHandle] = []
        self._running: dict[ObjectRef[Any], tuple[int, ActorHandle]] = {}
        self._results: dict[int, ObjectRef[Any]] = {}
        """Calls whose results nobody has asked for, by their number."""
        self._waiting: deque[tuple[Callable[[ActorHandle, Any], ObjectRef[Any]], Any]] = deque()
        """Calls for which no actor was idle."""
        self._failures: dict[int, BaseException] = {}
        """Calls that waited for an actor, and could not be made then."""
        self._next_call = 0
        self._next_result = 0
        self._death: ActorDiedError | None = None
        for actor in actors:
            self._check(actor)
            self._idle.append(actor)

    # ---- many calls ----

    def map(self, fn: Callable[[ActorHandle, V], ObjectRef[Any]], values: Iterable[V]) -> Iterator[Any]:
        """Call ``fn(actor, value)`` for each value, and return an iterator over the results in the order of the values.

        Results of earlier calls that nobody has asked for are dropped.

        Parameters
        ----------
        fn
            Calls a method of an actor, and returns the ObjectRef: ``lambda actor, value: actor.double.remote(value)``.
        values
            All are taken at once.
        """
        self._submit_all(fn, values)
        return self._iterate(self.get_next)

    def map_unordered(self, fn: Callable[[ActorHandle, V], ObjectRef[Any]], values: Iterable[V]) -> Iterator[Any]:
        """Do the same, but the iterator returns each result as soon as it is there."""
        self._submit_all(fn, values)
        return self._iterate(self.get_next_unordered)

    def _submit_all(self, fn: Callable[[ActorHandle, V], ObjectRef[Any]], values: Iterable[V]) -> None:
        self._drop_all()
        for value in values:
            self.submit(fn, value)

    def _iterate(self, following: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield following()

    def _drop_all(self) -> None:
        """Forget the calls so far; actors that still run one are idle when they have done so, as calls are in order."""
        self._waiting.clear()
        self._idle += [actor for _, actor in self._running.values()]
        self._running.clear()
        self._results.clear()
        self._failures.clear()
        self._next_result = self._next_call

    # ---- one call ----

    def submit(self, fn: Callable[[ActorHandle, V], ObjectRef[Any]], value: V) -> None:
        """Call ``fn(actor, value)`` as soon as an actor is idle.

        Raises
        ------
        TypeError
            When it returns something else than an ObjectRef.
        """
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            ref = fn(actor, value)
            if not isinstance(ref, ObjectRef):
                raise TypeError(f"the function of an ActorPool returns the ObjectRef of a call, not {ref!r}")
        except BaseException:
            self._idle.append(actor)
            raise
        self._running[ref] = (self._next_call, actor)
        self._results[self._next_call] = ref
        self._next_call += 1

    def has_next(self) -> bool:
        """Whether there are results that nobody has asked for."""
        return bool(self._results or self._waiting or self._failures)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission; wait for it.

        Parameters
        ----------
        timeout
            Seconds to wait; ``None``: as long as it takes.
        ignore_if_timedout
            When time is up, give this result up: it is dropped, and the next call of ``get_next`` returns the one after
            it.

        Raises
        ------
        StopIteration
            When there are none.
        TimeoutError
            When time was up first. Unless it was to be ignored, nothing is lost.
        ValueError
            When ``get_next_unordered`` was called before and has taken this one.
        ActorDiedError
            When the actor has died: it is not in the pool any more.
        Exception
            What the call has raised. Its actor is idle again.
        """
        if not self.has_next():
            raise StopIteration(_NO_MORE)
        self._need_actors()
        if self._next_result in self._failures:
            self._next_result += 1
            raise self._failures.pop(self._next_result - 1)
        ref = self._results.get(self._next_result)
        if ref is None:
            raise ValueError("get_next() is not allowed after get_next_unordered()")
        if timeout is not None and not wait([ref], timeout=timeout)[0]:
            if not ignore_if_timedout:
                raise TimeoutError(_NO_TIME)
            self._return(self._strike(ref))
            raise TimeoutError(_NO_TIME + ": it is dropped")
        return self._result_of(ref)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return whichever result is there first; wait for one.

        Parameters, exceptions: as ``get_next``, but there is no result to give up when time is up.
        """
        if not self.has_next():
            raise StopIteration(_NO_MORE)
        self._need_actors()
        if self._failures:
            number, error = self._failures.popitem()
            self._next_result = max(self._next_result, number + 1)
            raise error
        ready, _ = wait(list(self._running), timeout=timeout)
        if not ready:
            raise TimeoutError(_NO_TIME + (": nothing is dropped" if ignore_if_timedout else ""))
        return self._result_of(ready[0])

    def _strike(self, ref: ObjectRef[Any]) -> ActorHandle:
        """Strike off a call; return its actor."""
        number, actor = self._running.pop(ref)
        del self._results[number]
        self._next_result = max(self._next_result, number + 1)
        return actor

    def _result_of(self, ref: ObjectRef[Any]) -> Any:
        """Return what a call has made, or raise what it has raised; its actor takes the next one, unless it is dead."""
        try:
            value = get(ref)
        except KeyboardInterrupt:
            raise  # nothing has become of it yet
        except BaseException as error:
            # That of another actor, of which the call has heard, is an error as others.
            number = self._running[ref][1]._ref.id
            actor = self._strike(ref)
            if isinstance(error, ActorDiedError) and error.actor_number == number:
                self._death = error
            else:
                self._return(actor)
            raise
        self._return(self._strike(ref))
        return value

    def _need_actors(self) -> None:
        """Raise where calls wait, and nobody is left who could do them; each error strikes off one call."""
        if self._results or self._failures or not self._waiting:
            return
        self._waiting.popleft()
        if self._death is None:
            raise ValueError("this ActorPool has no actors: push() one before you ask for results")
        raise self._death

    # ---- the actors ----

    def has_free(self) -> bool:
        """Whether an actor is idle, and no call waits for it."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle | None:
        """Take an idle actor out of the pool; ``None`` when there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle) -> None:
        """Put an actor into the pool.

        Raises
        ------
        TypeError
            When it is no handle of an actor.
        ValueError
            When it is there already.
        """
        self._check(actor)
        self._return(actor)

    def _check(self, actor: ActorHandle) -> None:
        if not isinstance(actor, ActorHandle):
            raise TypeError(f"an ActorPool takes handles of actors, not {actor!r}")
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")

    def _return(self, actor: ActorHandle) -> None:
        self._idle.append(actor)
        while self._waiting and self._idle:
            fn, value = self._waiting.popleft()
            try:
                self.submit(fn, value)
            except Exception as error:  # noqa: BLE001 - it is what becomes of that call; the caller asks for another one
                self._failures[self._next_call] = error
                self._next_call += 1
