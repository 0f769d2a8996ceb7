"""An executor whose calls have options that ``submit`` has no room for."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from scalepool.api import Terms
    from scalepool.concurrent.futures._work import Work
    from scalepool.concurrent.futures.process import ProcessPoolExecutor

__all__ = ["LimitedExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class LimitedExecutor(Executor):
    """What ``ProcessPoolExecutor.with_options`` returns: the same workers, other options.

    Parameters
    ----------
    executor
        Kept alive.
    work
        Its work.
    terms
        The options.
    """

    def __init__(self, executor: ProcessPoolExecutor, work: Work, terms: Terms) -> None:
        self._executor = executor
        self._work = work
        self._terms = terms

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a worker; else as ``ProcessPoolExecutor.submit``."""
        self._work.check_open()
        return cast("Future[T]", self._work.submit(fn, args, kwargs, terms=self._terms))

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **options: Any) -> Iterator[T]:
        """Run ``fn`` on the zipped inputs; `options` are those of ``ProcessPoolExecutor.map``."""
        terms = self._terms
        own = {"task_timeout": terms.time_limit_s or None, "max_retries": terms.max_retries}
        return self._executor.map(fn, *iterables, **{**own, **options})

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the executor down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
