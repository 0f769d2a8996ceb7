"""A batch of calls in the worker, and the function that its calls have in common.

joblib pickles the function with every batch. One that travels by value, perhaps with a large table in its closure, is
taken out of the batch and goes as functions do: once per worker, for as long as nothing in it changes.
"""

from __future__ import annotations

import copy
from types import FunctionType
from typing import TYPE_CHECKING, Any

from scalepool._joblib import pickling
from scalepool._joblib.arrays import arrays_from
from scalepool._wire.pickling.importable import by_value_modules
from scalepool.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool.api import WorkerGroup

__all__ = ["Callers", "run_batch"]


def run_batch(data: Any, shared: tuple[Any, ...], buffers: list[Any], gaps: tuple[int, ...]) -> Any:
    """Run a batch in the worker."""
    with arrays_from(shared):
        func = pickling.loads(data, buffers, gaps)
    return func()


class _Caller:
    """Runs batches of calls of one function in the worker."""

    __slots__ = ("__weakref__", "fn")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def fingerprint_parts(self) -> tuple[object, ...]:
        """Return what a pickle of it depends on."""
        return (self.fn,)

    def __call__(self, data: Any, shared: tuple[Any, ...], buffers: list[Any], gaps: tuple[int, ...]) -> Any:
        with arrays_from(shared):
            batch = pickling.loads(data, buffers, gaps)
        batch.items = [(self.fn, args, kwargs) for _, args, kwargs in batch.items]
        return batch()


class Callers:
    """The last function that was taken out of batches."""

    def __init__(self) -> None:
        self._fn: Callable[..., Any] | None = None
        self._caller: _Caller | None = None

    def split(self, batch: Any, workers: WorkerGroup | None) -> tuple[Callable[..., Any], Any]:
        """Return what the worker is to run, and the batch without it."""
        fn = _common_function(batch)
        if fn is None or workers is None:
            return run_batch, batch
        if fn is not self._fn:
            self._fn, self._caller = fn, _caller_of(fn, workers)
        if self._caller is None:
            return run_batch, batch
        rest = copy.copy(batch)
        rest.items = [(None, args, kwargs) for _, args, kwargs in batch.items]
        return self._caller, rest


def _caller_of(fn: Callable[..., Any], workers: WorkerGroup) -> _Caller | None:
    """Return one, None where the batch's own pickling has more to say: of arrays, and of what cannot be pickled."""
    caller = _Caller(fn)
    try:
        return None if workers.export(caller).has_arrays else caller
    except SerializationError:
        return None


def _common_function(batch: Any) -> FunctionType | None:
    items = getattr(batch, "items", None)
    if not items or type(items[0][0]) is not FunctionType:
        return None
    fn: FunctionType = items[0][0]
    is_by_value = fn.__module__ in by_value_modules().names() or "<" in fn.__qualname__  # a lambda, a closure
    return fn if is_by_value and all(item[0] is fn for item in items) else None
