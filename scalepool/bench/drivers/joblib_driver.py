"""joblib's ``Parallel``, which knows maps only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from joblib import Parallel, delayed

from scalepool.bench.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["JoblibDriver"]


class JoblibDriver(Driver):
    """``joblib.Parallel`` with its default backend."""

    def each(self, fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:  # noqa: D102
        found: list[Any] = Parallel(n_jobs=self.workers)(delayed(fn)(*args) for args in calls)
        return found

    def warm_up(self, by: Literal["singles", "map"]) -> None:  # noqa: D102
        super().warm_up("map")

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        found: list[Any] = Parallel(n_jobs=self.workers)(delayed(fn)(item) for item in items)
        return found

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        parallel = Parallel(n_jobs=self.workers, return_as="generator")
        found: Iterator[Any] = parallel(delayed(fn)(item) for item in items)
        return found
