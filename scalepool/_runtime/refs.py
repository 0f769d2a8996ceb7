"""A reference to a value that a task makes, or that was put into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from scalepool._runtime.session import existing
from scalepool._wire.payload import announce
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future

    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["ObjectRef"]

T = TypeVar("T")


class ObjectRef(Generic[T]):
    """What ``f.remote()`` and ``put`` return: stands for a value, wherever it is and whenever it will be there.

    Pass it to other remote functions, to ``get``, ``wait`` and ``as_completed``, or ``await`` it. References are equal,
    and hash alike, when they stand for the same value. The value lives as long as some process of the session has a
    reference, or a task needs it; a reference that travels inside of arguments, results or other values is counted.

    Mirrors Ray's ``ObjectRef``. Different: a reference that was pickled in any other way (into a file, say) keeps
    nothing alive.
    """

    __slots__ = ("__weakref__", "_values", "id")

    def __init__(self, value: int, values: Values | None) -> None:
        self.id = value
        self._values = values

    def future(self) -> Future[T]:
        """Return a real ``concurrent.futures.Future`` for the value; its ``cancel`` cancels the task."""
        from scalepool._runtime.promises import future_of

        return future_of(self._table(), self)

    def __await__(self) -> Generator[Any, None, T]:
        from scalepool._runtime.awaiting import result  # late: it loads asyncio

        return result(self._table(), self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and other.id == self.id and other._values is self._values

    def __hash__(self) -> int:
        return hash(self.id)

    def __copy__(self) -> ObjectRef[T]:
        return self

    def __deepcopy__(self, _: object) -> ObjectRef[T]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        values = self._table()
        slot = self._slot()
        announce(self.id)
        return _rebuild, (values.session, self.id, slot.task, slot.name)

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRef is not iterable: it stands for one value; use num_returns= for several, and get() for them"
        )

    def __del__(self) -> None:
        # One step in C: a finalizer may run at any moment, in any thread.
        values = getattr(self, "_values", None)
        if values is not None:
            values.changes.append(-self.id)

    def __repr__(self) -> str:
        values = self._values
        slot = values.table.get(self.id) if values is not None else None
        if slot is None:
            return f"<ObjectRef {self.id} of a session that has ended>"
        return f"<ObjectRef {self.id} of {slot.name or 'a value'}: {slot.state}>"

    def _table(self) -> Values:
        values = self._values
        if values is None or values.client.closed:
            raise SessionError(
                f"{self!r} cannot be used: it belongs to another session, or its session was shut down; "
                "submit the task again in this one"
            )
        return values

    def _slot(self) -> Slot:
        values = self._table()
        return values.table.get(self.id) or values.again(self.id)


def _rebuild(session: int, value: int, task: int, name: str) -> ObjectRef[Any]:
    current = existing()
    if current is None or current.client.session != session:
        return ObjectRef(value, None)
    from scalepool._runtime.values import values_of

    return values_of(current.client).adopt(value, task, name)
