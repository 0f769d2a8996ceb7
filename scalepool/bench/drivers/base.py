"""The operations that workloads are written in, and how the two usual shapes of a pool do them.

Each operation is a whole loop in the library's own idiom: an adapter that added a call per task would measure itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from scalepool.bench.tasks import nap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Self

__all__ = ["Driver", "ExecutorShaped", "PoolShaped"]


class Driver:
    """One library's pool of ``workers`` processes. What a library has no way to do is not overridden."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Make one call and wait for its result."""
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Submit one call; return what `collect` takes."""
        raise NotImplementedError

    def collect(self, handles: Sequence[Any]) -> list[Any]:
        """Return the results of submitted calls."""
        raise NotImplementedError

    def each(self, fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Submit one call per tuple of arguments, each by itself; then collect all results."""
        return self.collect([self.submit(fn, *args) for args in calls])

    def singles(self, fn: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """Submit one call per item, each by itself; then collect all results. For very many tiny calls."""
        raise NotImplementedError

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Map with the library's default chunks."""
        raise NotImplementedError

    def starmap(self, fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Map over tuples of arguments, each sent by itself; where there is no such map, as `each` does it."""
        return self.each(fn, calls)

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield results as they come, each item sent by itself."""
        raise NotImplementedError

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield results in order while the input is being read, as lazily as the library can."""
        raise NotImplementedError

    def close(self) -> None:
        """End the workers."""

    def warm_up(self, by: Literal["singles", "map"]) -> None:
        """Have every worker start and run something, ``by`` the operation that is to be measured."""
        naps = [0.01] * (4 * self.workers)
        if by == "map":
            self.map(nap, naps)
        else:
            self.singles(nap, naps)


class _Handle(Protocol):
    def get(self) -> Any: ...


class _Pool(Protocol):
    def apply(self, func: Callable[..., Any], args: Any = ...) -> Any: ...
    def apply_async(self, func: Callable[..., Any], args: Any = ...) -> _Handle: ...
    def map(self, func: Callable[[Any], Any], iterable: Any) -> list[Any]: ...
    def starmap(self, func: Callable[..., Any], iterable: Any, chunksize: int | None = ...) -> list[Any]: ...
    def imap(self, func: Callable[[Any], Any], iterable: Any) -> Iterator[Any]: ...
    def imap_unordered(self, func: Callable[[Any], Any], iterable: Any, chunksize: int = ...) -> Iterator[Any]: ...
    def terminate(self) -> None: ...
    def join(self) -> None: ...


class PoolShaped(Driver):
    """What has the methods of ``multiprocessing.Pool``."""

    pool: _Pool

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102 - as above
        return self.pool.apply(fn, args)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.pool.apply_async(fn, args)

    def collect(self, handles: Sequence[Any]) -> list[Any]:  # noqa: D102
        return [handle.get() for handle in handles]

    def singles(self, fn: Callable[..., Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        submit = self.pool.apply_async
        return [handle.get() for handle in [submit(fn, (item,)) for item in items]]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        return self.pool.map(fn, items)

    def starmap(self, fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:  # noqa: D102
        return self.pool.starmap(fn, calls, chunksize=1)

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:  # noqa: D102
        return self.pool.imap_unordered(fn, items, chunksize=1)

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        return self.pool.imap(fn, items)

    def close(self) -> None:  # noqa: D102
        self.pool.terminate()
        self.pool.join()


class ExecutorShaped(Driver):
    """What has the methods of ``concurrent.futures.Executor``."""

    executor: Any

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.executor.submit(fn, *args).result()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:  # noqa: D102
        return self.executor.submit(fn, *args)

    def collect(self, handles: Sequence[Any]) -> list[Any]:  # noqa: D102
        return [handle.result() for handle in handles]

    def singles(self, fn: Callable[..., Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        submit = self.executor.submit
        return [future.result() for future in [submit(fn, item) for item in items]]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # noqa: D102
        return list(self.executor.map(fn, items))

    def unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:  # noqa: D102
        from concurrent.futures import as_completed

        submit = self.executor.submit
        return (future.result() for future in as_completed([submit(fn, item) for item in items]))

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:  # noqa: D102
        found: Iterator[Any] = self.executor.map(fn, items)
        return found

    def close(self) -> None:  # noqa: D102
        self.executor.shutdown()
