"""Dask's distributed scheduler on this machine, with one process per worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster, as_completed

from scalepool.bench.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["DaskDriver"]


class DaskDriver(Driver):
    """``distributed.LocalCluster``. Every call is made (``pure=False``): the same call twice would be looked up."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )  # fmt: skip
        self.client = Client(self.cluster)

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.client.submit(fn, *args, pure=False).result()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.client.submit(fn, *args, pure=False)

    def collect(self, handles: Sequence[Any]) -> list[Any]:  # noqa: D102
        found: list[Any] = self.client.gather(list(handles))
        return found

    def singles(self, fn: Callable[..., Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        submit = self.client.submit
        return self.collect([submit(fn, item, pure=False) for item in items])

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        found: list[Any] = self.client.gather(self.client.map(fn, items, pure=False))
        return found

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:  # noqa: D102
        futures = self.client.map(fn, items, pure=False)
        return (result for _, result in as_completed(futures, with_results=True))

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        # Its map takes no iterator, so the input is read as a whole.
        return (future.result() for future in self.client.map(fn, list(items), pure=False))

    def close(self) -> None:  # noqa: D102
        self.client.close()
        self.cluster.close()
