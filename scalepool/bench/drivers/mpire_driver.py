"""mpire's ``WorkerPool``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpire import WorkerPool

from scalepool.bench.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["MpireDriver"]


class MpireDriver(Driver):
    """``mpire.WorkerPool`` that keeps its workers between calls, as the others do.

    It starts them anew for another function, so its figures include that; some hundredths of a second.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pool = WorkerPool(n_jobs=workers, keep_alive=True)

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.pool.apply(fn, args)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.pool.apply_async(fn, args)

    def collect(self, handles: Sequence[Any]) -> list[Any]:  # noqa: D102
        return [handle.get() for handle in handles]

    def singles(self, fn: Callable[..., Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        submit = self.pool.apply_async
        return [handle.get() for handle in [submit(fn, (item,)) for item in items]]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        found: list[Any] = self.pool.map(fn, items)
        return found

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:  # noqa: D102
        found: Iterator[Any] = self.pool.imap_unordered(fn, items, chunk_size=1)
        return found

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        found: Iterator[Any] = self.pool.imap(fn, items, chunk_size=1)
        return found

    def close(self) -> None:  # noqa: D102
        self.pool.terminate()
