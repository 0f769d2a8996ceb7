"""Pickles a batch of joblib's calls, with a say in how arrays travel.

The same two steps as all of scalepool's values take (plain pickle first, by value where the reader could not import
what it names), since that is what makes ``__main__`` functions, initializers and later tasks share one namespace.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections import ChainMap
from collections.abc import Callable
from typing import Any, Final

from scalepool._wire import payload
from scalepool._wire.pickling.exchange import current
from scalepool._wire.pickling.importable import by_value_modules
from scalepool._wire.pickling.pickler import Reducers, dumps_by_value
from scalepool.errors import SerializationError

__all__ = ["Reducers", "UnpicklableTaskError", "dumps", "loads"]

#: Smaller buffers are cheaper inside the pickle.
_OUT_OF_BAND_BYTES: Final = 65_536


class UnpicklableTaskError(SerializationError, pickle.PicklingError):
    """A task cannot be pickled; the message names the culprit. A ``PicklingError``, as from joblib's own backends."""


def dumps(value: object, reducers: Reducers) -> tuple[pickle.PickleBuffer, list[pickle.PickleBuffer]]:
    """Pickle a value.

    Parameters
    ----------
    value
        Anything.
    reducers
        How objects of exactly these types are taken apart.

    Returns
    -------
    The pickle, and the buffers that were left out of it.

    Raises
    ------
    UnpicklableTaskError
        When it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []

    def keep_out(buffer: pickle.PickleBuffer) -> bool:
        try:
            is_small = buffer.raw().nbytes < _OUT_OF_BAND_BYTES
        except BufferError:
            return True  # not contiguous
        if not is_small:
            buffers.append(buffer)
        return is_small

    data = _dumps_plain(value, reducers, keep_out)
    if data is None:
        buffers.clear()
        data = _dumps_by_value(value, reducers, keep_out)
    return pickle.PickleBuffer(data), buffers


def loads(data: Any, buffers: list[Any]) -> Any:
    """Return what `dumps` pickled."""
    return pickle.loads(data, buffers=buffers)


def _dumps_plain(value: object, reducers: Reducers, keep_out: Callable[[pickle.PickleBuffer], bool]) -> bytes | None:
    """Return the pickle, None when it takes the other way."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5, buffer_callback=keep_out)
    table: ChainMap[type, Any] = ChainMap(dict(reducers), dict(copyreg.dispatch_table))
    pickler.dispatch_table = table
    try:
        pickler.dump(value)
    except Exception:  # noqa: BLE001 - whatever went wrong, the other pickler either succeeds or says so
        return None
    data = file.getvalue()
    return None if by_value_modules().mentioned_in(data) else data


def _dumps_by_value(value: object, reducers: Reducers, keep_out: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    try:
        return dumps_by_value(value, current(), None, keep_out, reducers)
    except Exception as error:
        raise _explain(value, error) from error


def _explain(value: object, error: Exception) -> UnpicklableTaskError:
    try:
        payload.dumps(value, oob_threshold=_OUT_OF_BAND_BYTES)
    except SerializationError as explained:
        path, text = explained.path, str(explained)
    else:
        path, text = "", str(error)
    return UnpicklableTaskError(f"Could not pickle the task to send it to the workers: {text}", path)
