"""Contexts: the standard library's own start-method contexts, whose ``Pool`` is scalepool's.

Everything else of a context (Process, Queue, Lock, Manager ...) is the original's; ``fork`` has its locks, queues and
shared values from ``spawn``, since no pool's worker could open others. The start method is accepted and kept, but means
nothing for a Pool here: its workers never start by a fork of the caller's process.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from scalepool import api
from scalepool.multiprocessing.pool import Pool
from scalepool.multiprocessing.sharing import SHARED

if TYPE_CHECKING:
    import multiprocessing.context as _original
    from collections.abc import Callable, Iterable

__all__ = ["get_context"]


class _ScalepoolContext:
    """What differs from the original; mixed in before the original's class."""

    def Pool(  # noqa: N802  # the original's name
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Pool:
        """Return a `scalepool.multiprocessing.pool.Pool` with this context; `options` are keywords of its own."""
        return Pool(processes, initializer, initargs, maxtasksperchild, context=self, **options)

    def cpu_count(self) -> int:
        """Return the number of usable CPUs, as `scalepool.api.cpu_count`."""
        return api.cpu_count()

    def get_context(self, method: str | None = None) -> Any:
        """Return this context, or the one of another start method."""
        return self if method is None else get_context(method)


@cache
def _context_like(original: type[_original.BaseContext]) -> Any:
    import multiprocessing

    namespace: dict[str, Any] = {"__module__": __name__, "__doc__": original.__doc__}
    if vars(original).get("_name") == "fork":
        # A forked child inherits these as well.
        spawn = multiprocessing.get_context("spawn")
        namespace.update({name: getattr(spawn, name) for name in SHARED})
    return type(original.__name__, (_ScalepoolContext, original), namespace)()


def get_context(method: str | None = None) -> Any:
    """Return a context object with scalepool's Pool, one and the same for each start method.

    Mirrors ``multiprocessing.get_context``.

    Parameters
    ----------
    method
        ``"fork"``, ``"spawn"``, ``"forkserver"``, or ``None`` for the default.

    Raises
    ------
    ValueError
        For any other method, or one that the platform lacks.
    """
    import multiprocessing

    original: Any = type(multiprocessing.get_context(method))
    return _context_like(original)
