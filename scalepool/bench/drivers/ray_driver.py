"""Ray on this machine: plain remote functions, and its ``multiprocessing.Pool`` for maps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import ray
from ray.util.multiprocessing import Pool

from scalepool.bench.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["RayDriver", "start"]


def start(workers: int) -> None:
    """Start Ray with so many CPUs, without dashboard and talk."""
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)


class RayDriver(Driver):
    """Remote functions for single calls, ``ray.util.multiprocessing.Pool`` for maps."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        start(workers)
        self._remotes: dict[Any, Any] = {}
        self._pool: Any = None

    def _remote(self, fn: Callable[..., Any]) -> Any:
        if fn not in self._remotes:
            self._remotes[fn] = ray.remote(fn)
        return self._remotes[fn]

    @property
    def pool(self) -> Any:
        """The pool; its actors take all CPUs, so it is made only where it is used."""
        if self._pool is None:
            self._pool = Pool(self.workers)
        return self._pool

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return ray.get(self._remote(fn).remote(*args))

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self._remote(fn).remote(*args)

    def collect(self, handles: Sequence[Any]) -> list[Any]:  # noqa: D102
        found: list[Any] = ray.get(list(handles))
        return found

    def singles(self, fn: Callable[..., Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        remote = self._remote(fn).remote
        return self.collect([remote(item) for item in items])

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        found: list[Any] = self.pool.map(fn, items)
        return found

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:  # noqa: D102
        found: Iterator[Any] = self.pool.imap_unordered(fn, items, chunksize=1)
        return found

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        found: Iterator[Any] = self.pool.imap(fn, items)
        return found

    def close(self) -> None:  # noqa: D102
        ray.shutdown()
