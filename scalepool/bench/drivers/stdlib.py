"""The standard library's pools, and no pool at all."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from scalepool.bench.drivers.base import Driver, ExecutorShaped, PoolShaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["ExecutorDriver", "PoolDriver", "SerialDriver"]


class PoolDriver(PoolShaped):
    """``multiprocessing.Pool`` with the default start method."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pool = multiprocessing.Pool(workers)


class ExecutorDriver(ExecutorShaped):
    """``concurrent.futures.ProcessPoolExecutor``."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.executor = ProcessPoolExecutor(workers)


class SerialDriver(Driver):
    """A loop."""

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return fn(*args)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        return list(map(fn, items))

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:  # noqa: D102
        return map(fn, items)

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        return map(fn, items)

    def warm_up(self, by: Literal["singles", "map"]) -> None:  # noqa: D102
        pass
