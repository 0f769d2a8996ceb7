"""Pickles a batch of joblib's calls, with a say in how arrays travel.

The same two steps as all of scalepool's values take (plain pickle first, by value where the reader could not import
what it names), since that is what makes ``__main__`` functions, initializers and later tasks share one namespace.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from scalepool._wire import payload
from scalepool._wire.pickling.exchange import current
from scalepool._wire.pickling.importable import by_value_modules
from scalepool._wire.pickling.pickler import Reducers, dump_by_value
from scalepool._wire.pickling.streams import Pieces, PieceWriter
from scalepool.errors import SerializationError

__all__ = ["Reducers", "UnpicklableTaskError", "dumps", "loads"]

#: Smaller buffers are cheaper inside the pickle.
_OUT_OF_BAND_BYTES: Final = 65_536


class UnpicklableTaskError(SerializationError, pickle.PicklingError):
    """A task cannot be pickled; the message names the culprit. A ``PicklingError``, as from joblib's own backends."""


class Pickled(NamedTuple):
    """A pickle and what was left out of it.

    Attributes
    ----------
    data
        The pickle, without its large pieces.
    buffers
        Those, and then the buffers that it refers to.
    gaps
        Where the pieces belong.
    """

    data: pickle.PickleBuffer
    buffers: list[pickle.PickleBuffer]
    gaps: tuple[int, ...]


def dumps(value: object, reducers: Reducers) -> Pickled:
    """Pickle a value.

    Parameters
    ----------
    value
        Anything.
    reducers
        How objects of exactly these types are taken apart.

    Raises
    ------
    UnpicklableTaskError
        When it cannot be pickled.
    """
    return _dumps_plain(value, reducers) or _dumps_by_value(value, reducers)


def loads(data: Any, buffers: list[Any], gaps: tuple[int, ...]) -> Any:
    """Return what `dumps` pickled."""
    return payload.loads(data, buffers, gaps)


def _keeps_out(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def keep_out(buffer: pickle.PickleBuffer) -> bool:
        try:
            is_small = buffer.raw().nbytes < _OUT_OF_BAND_BYTES
        except BufferError:
            return True  # not contiguous
        if not is_small:
            buffers.append(buffer)
        return is_small

    return keep_out


def _pickled(pieces: Pieces, buffers: list[pickle.PickleBuffer]) -> Pickled:
    plain, large, gaps = pieces
    data = by_value_modules().directed(plain)
    gaps = tuple(gap + len(data) - len(plain) for gap in gaps)
    return Pickled(pickle.PickleBuffer(data), [*map(pickle.PickleBuffer, large), *buffers], gaps)


def _dumps_plain(value: object, reducers: Reducers) -> Pickled | None:
    """Return the pickle, None when it takes the other way."""
    writer, buffers = PieceWriter(), list[pickle.PickleBuffer]()
    pickler = pickle.Pickler(writer, 5, buffer_callback=_keeps_out(buffers))
    pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
    try:
        pickler.dump(value)
    except Exception:  # noqa: BLE001 - whatever went wrong, the other pickler either succeeds or says so
        return None
    pieces, modules = writer.pieces(), by_value_modules()
    is_plain = not modules.mentioned_in(pieces.data) or modules.needs_only_directions(pieces.data)
    return _pickled(pieces, buffers) if is_plain else None


def _dumps_by_value(value: object, reducers: Reducers) -> Pickled:
    writer, buffers = PieceWriter(), list[pickle.PickleBuffer]()
    try:
        dump_by_value(value, writer, current(), None, _keeps_out(buffers), reducers)
    except Exception as error:
        raise _explain(value, error) from error
    return _pickled(writer.pieces(), buffers)


def _explain(value: object, error: Exception) -> UnpicklableTaskError:
    try:
        payload.dumps(value, oob_threshold=_OUT_OF_BAND_BYTES)
    except SerializationError as explained:
        path, kind, text = explained.path, explained.kind, str(explained)
    else:
        path, kind, text = "", "", str(error)
    return UnpicklableTaskError(f"Could not pickle the task to send it to the workers: {text}", path, kind)
