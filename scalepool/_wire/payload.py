"""How Python values travel: as a pickle, and beside it the large buffers that were not copied into it.

Plain C pickle goes first, because it is ten times faster than cloudpickle and right nearly always. It is not right for
what `__main__` or another module without a file defines: plain pickle would send a name that means nothing to the
reader. Whether it did is seen in its own output, so nothing has to be walked beforehand; see ``pickling.pickler`` for
how such values travel. The hub never calls anything in this module.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from scalepool._wire.pickling.culprit import Labels, find_culprit
from scalepool._wire.pickling.exchange import current
from scalepool._wire.pickling.importable import by_value_modules
from scalepool._wire.pickling.streams import LARGE_BYTES, PieceReader, PieceWriter, holds_large_bytes
from scalepool.errors import SerializationError, SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._wire.pickling.arrays import ArrayReducers
    from scalepool._wire.pickling.pickler import Reducers

__all__ = ["Payload", "announce", "dumps", "dumps_inline", "dumps_scalar", "dumps_scalars", "loads", "loads_inline"]

# Protocol 5 names every global by this opcode; a pickle without that byte mentions no module at all. (An int: searching
# bytes for an int is five times faster than for a bytes object.)
_STACK_GLOBAL = 0x93

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})

_SIZED = frozenset({str, bytes})

_SCALAR_PROTOCOL = 3
"""Has all that scalars need, and no frames: those of later protocols double the price of so small a pickle."""

_modules = by_value_modules()
_mentions_by_value = _modules.mentioned_in
_pickle = pickle.dumps
_unpickle = pickle.loads

loads_inline: Callable[[bytes], Any] = pickle.loads
"""`loads` for a pickle that has all of its buffers in it, like those of `dumps_scalars`: without a detour."""


class Payload(NamedTuple):
    """A pickled value; a tuple because one is made for every task.

    Attributes
    ----------
    data
        The pickle itself; begins with ``0x80``.
    buffers
        Contiguous memory of the value's large buffers, in the order in which `loads` wants them. Views: the value
        must not change until they have been sent or copied.
    references
        Ids of the shared objects that the value announced while it was pickled, each once.
    gaps
        Where in `data` the first of the buffers belong: these were cut out of the pickle itself.
    took_apart
        Whether it took a second look to keep all that is large out of the pickle; see `dumps`.
    """

    data: bytes
    buffers: tuple[memoryview, ...] = ()
    references: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    took_apart: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each buffer."""
        return tuple(view.nbytes for view in self.buffers)

    @property
    def size_bytes(self) -> int:
        """Bytes of pickle and buffers together."""
        return len(self.data) + sum(view.nbytes for view in self.buffers)


_new_payload = tuple.__new__  # half the price of Payload(...), which checks its arguments by name

# Ids announced by the dumps() that runs in this context. Nested calls set their caller's list aside.
_announced: ContextVar[list[int] | None] = ContextVar("_announced", default=None)


def announce(object_id: int) -> None:
    """Note, from inside a ``__reduce__``, that the value being pickled refers to a shared object.

    Parameters
    ----------
    object_id
        Appears in `Payload.references` of the innermost `dumps` under way in this thread.
    """
    ids = _announced.get()
    if ids is None:
        _announced.set([object_id])
    else:
        ids.append(object_id)


def dumps(
    obj: object,
    *,
    oob_threshold: int,
    reader: int | None = None,
    label: Labels = "",
    reducers: Reducers | None = None,
    apart: bool = False,
) -> Payload:
    """Pickle a value with protocol 5, by value where the reader could not import what it mentions.

    Parameters
    ----------
    obj
        Anything.
    oob_threshold
        Contiguous buffers of at least this many bytes stay outside of the pickle, uncopied; and so do large ``bytes``
        and the like, if a first look finds some.
    reader
        Sender number (`Exchange.sender`) of the process that will read, when it is known: its own classes then go
        as a mere id. Meant for results, which the submitter of the task reads.
    label
        What an error message calls the value, e.g. ``"args"``; a tuple names the items of a tuple.
    reducers
        How objects of exactly these types are taken apart, if not in their own way.
    apart
        Spare the first look: the last value had such things in it (`Payload.took_apart`), so this one may, too.

    Raises
    ------
    SerializationError
        When something in the value does not pickle; names its path, ``__cause__`` is the original error.
    """
    outer = _announced.get()
    if outer is not None:
        _announced.set(None)
    buffers: list[memoryview] = []
    keep_out = partial(_stays_inside, oob_threshold, buffers)  # cheaper to make than a closure
    is_plain = False
    data = b""
    if not apart and reducers is None:
        try:
            data = _pickle(obj, 5, buffer_callback=keep_out)
            is_large = LARGE_BYTES <= len(data) >= oob_threshold and holds_large_bytes(data)
            is_plain = _STACK_GLOBAL not in data or not _mentions_by_value(data)
            if not is_plain and _modules.needs_only_directions(data):
                data, is_plain = _modules.directed(data), True
            apart = is_plain and is_large
        except Exception:  # noqa: BLE001, S110 - whatever went wrong, the second pickler either succeeds or says so
            pass
    if is_plain and not apart and not buffers and outer is None and _announced.get() is None:
        return _new_payload(Payload, (data, (), (), (), False))
    try:
        if is_plain and not apart:
            return Payload(data, tuple(buffers), _all_announced())
        return _dumps_thoroughly(obj, _How(oob_threshold, reader, label, reducers), apart=apart)
    finally:
        _announced.set(outer)


def dumps_scalars(
    args: tuple[Any, ...], kwargs: dict[str, Any], limit_bytes: int, where: list[int | str] | None = None
) -> bytes | None:
    """Pickle the arguments of a call that are all numbers and strings: most tiny calls have no others.

    Nothing in such a pickle can travel by value, refer to an object or be kept out of it, so nothing is looked for.

    Parameters
    ----------
    args, kwargs
        What to pickle, as one pair.
    limit_bytes
        The longest pickle that is wanted.
    where
        The third beside those two, if there is any: positions and names among them.

    Returns
    -------
    bytes | None
        ``None`` when there are other things among them, or the pickle is too long.
    """
    for value in args:
        kind = type(value)
        if kind not in _SCALARS or (kind in _SIZED and len(value) >= limit_bytes):
            return None
    for value in kwargs.values():
        kind = type(value)
        if kind not in _SCALARS or (kind in _SIZED and len(value) >= limit_bytes):
            return None
    data = _pickle((args, kwargs) if where is None else (args, kwargs, where), _SCALAR_PROTOCOL)
    return data if len(data) < limit_bytes else None


def dumps_scalar(value: object, limit_bytes: int) -> bytes | None:
    """Pickle a single value in the same way."""
    kind = type(value)
    if kind not in _SCALARS or (kind in _SIZED and len(value) >= limit_bytes):  # type: ignore[arg-type]
        return None
    data = _pickle(value, _SCALAR_PROTOCOL)
    return data if len(data) < limit_bytes else None


def _stays_inside(oob_threshold: int, buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    try:
        view = buffer.raw()
    except BufferError:
        return True  # not contiguous
    if view.nbytes < oob_threshold:
        return True
    buffers.append(view)
    return False


class _How(NamedTuple):
    """The parameters of `dumps`."""

    oob_threshold: int
    reader: int | None
    label: Labels
    reducers: Reducers | None


def _dumps_thoroughly(obj: object, how: _How, *, apart: bool) -> Payload:
    """Pickle what the plain pickler cannot, or copies too much of."""
    from scalepool._wire.pickling.arrays import ArrayReducers  # most programs do without

    arrays = ArrayReducers(max(LARGE_BYTES, how.oob_threshold))
    payload = _dumps_apart(obj, how, arrays) if apart or how.reducers is not None else None
    return _dumps_by_value(obj, how, arrays) if payload is None else payload


def _dumps_apart(obj: object, how: _How, arrays: ArrayReducers) -> Payload | None:
    """Pickle by reference, nothing large in it; ``None`` where it takes more than that."""
    writer, buffers = PieceWriter(), list[memoryview]()
    _announced.set(None)
    pickler = pickle.Pickler(writer, 5, buffer_callback=partial(_stays_inside, how.oob_threshold, buffers))
    pickler.dispatch_table = {**arrays.table(), **copyreg.dispatch_table, **(how.reducers or {})}
    try:
        pickler.dump(obj)
        payload = _payload(writer, buffers, arrays)
        is_plain = _STACK_GLOBAL not in payload.data or not _mentions_by_value(payload.data)
    except Exception:  # noqa: BLE001 - as in `dumps`
        return None
    return payload if is_plain else None


def _payload(writer: PieceWriter, buffers: Sequence[memoryview], arrays: ArrayReducers) -> Payload:
    plain, large, gaps = writer.pieces()
    data = _modules.directed(plain)
    gaps = tuple(gap + len(data) - len(plain) for gap in gaps)
    return Payload(data, (*large, *buffers), _all_announced(), gaps, bool(gaps) or arrays.used)


def _all_announced() -> tuple[int, ...]:
    return tuple(dict.fromkeys(_announced.get() or ()))


def dumps_inline(obj: object, *, reader: int | None = None) -> bytes:
    """Pickle a value into bytes that hold all of it, by the same rules as `dumps`.

    Raises
    ------
    Exception
        Whatever pickling raised, without a search for the culprit.
    """
    try:
        data = _pickle(obj, 5)
        if _STACK_GLOBAL not in data or not _mentions_by_value(data):
            return data
        if _modules.needs_only_directions(data):
            return _modules.directed(data)
    except Exception:  # noqa: BLE001, S110 - the second pickler either succeeds or says what is wrong
        pass
    from scalepool._wire.pickling.pickler import dumps_by_value

    return _modules.directed(dumps_by_value(obj, current(), reader, None))


def loads(data: bytes | memoryview, buffers: Sequence[Any] = (), gaps: Sequence[int] = ()) -> Any:
    """Return the value that `dumps` pickled.

    Parameters
    ----------
    data, gaps
        As in `Payload`.
    buffers
        The memory for `Payload.buffers`, in order. The value uses it without copying: what is writable here is
        writable there. Only what is to fill the gaps is copied.

    Raises
    ------
    Exception
        Whatever unpickling raises: the value's own classes take part in it.
    """
    if gaps:
        reader: Any = PieceReader(memoryview(data), buffers[: len(gaps)], gaps)  # any buffer does where bytes are read
        return pickle.Unpickler(reader, buffers=buffers[len(gaps) :]).load()
    return _unpickle(data, buffers=buffers) if buffers else _unpickle(data)


def _dumps_by_value(obj: object, how: _How, arrays: ArrayReducers) -> Payload:
    exchange = current()
    writer, buffers = PieceWriter(), list[memoryview]()
    _announced.set(None)
    if how.reducers is None and (type(obj) is FunctionType or type(obj).__module__.startswith("scalepool.")):
        from scalepool._wire.pickling.functions import dumps_function

        data = dumps_function(obj, exchange)
        if data is not None and not (LARGE_BYTES <= len(data) >= how.oob_threshold and holds_large_bytes(data)):
            return Payload(_modules.directed(data), (), _all_announced())
        _announced.set(None)
    # As late as this: it needs cloudpickle, 15 ms that many programs and nearly all workers do without.
    from scalepool._wire.pickling.pickler import dump_by_value, dumps_by_value

    keep_out = partial(_stays_inside, how.oob_threshold, buffers)
    try:
        dump_by_value(obj, writer, exchange, how.reader, keep_out, how.reducers, arrays.table())
        return _payload(writer, buffers, arrays)
    except MemoryError:
        raise  # says nothing about the value
    except Exception as error:

        def pickle_part(part: object) -> None:
            # A callback that returns None leaves buffers out: they pickle always, so copying them is a waste.
            dumps_by_value(part, exchange, how.reader, lambda _buffer: None, how.reducers)

        culprit = find_culprit(obj, pickle_part, how.label)
        if isinstance(error, SessionError):  # a reference, or a handle, that is of no use any more, in whatever
            raise SessionError(culprit.explain(error)) from error
        raise SerializationError(culprit.explain(error), culprit.path, culprit.kind) from error
