"""`install`: code that says ``multiprocessing``, ``concurrent.futures`` or joblib gets scalepool, without an edit.

For programs and libraries that make their own pools. Names in modules of the standard library are set to ours, at once
where a module is imported already and else when it is; `uninstall` sets them back. Who has imported a name before keeps
what it has.
"""

from __future__ import annotations

import os
import sys

from scalepool._base.imports import after_import, forget
from scalepool._joblib.registration import BACKEND_NAME, PARALLEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, Final
else:
    ModuleType = type(sys)  # the module ``types`` is one more to load

__all__ = ["MARK", "install", "uninstall"]

MARK: Final = "SCALEPOOL_INSTALL"
"""Environment variable of processes in which importing scalepool installs it: workers, for pools in tasks."""

_undo: list[Callable[[], object]] = []


def install() -> None:
    """Let everything in this program that makes process pools make scalepool's, with no edit of it.

    From now on these names stand for scalepool's: ``multiprocessing.Pool``, the ``Pool`` of every start method's
    context, ``multiprocessing.pool.Pool``, ``concurrent.futures.ProcessPoolExecutor``; joblib's default backend is
    ``"scalepool"``. Locks, queues and shared values of ``multiprocessing`` and of its ``fork`` context are those of
    ``spawn``, as no pool's worker could open others. Processes, managers and thread pools remain the standard
    library's, and a backend that is named (``Parallel(backend="loky")``) is the one that is named.

    Call it before the modules that make pools are imported, and before the first pool, since workers take it over
    when the first of them starts. Calling it twice is harmless. ``scalepool run script.py`` does it for a script.
    """
    if _undo:
        return
    before = os.environ.get(MARK)
    os.environ[MARK] = "1"
    _undo.append(lambda: os.environ.pop(MARK, None) if before is None else os.environ.__setitem__(MARK, before))
    for name, step in _STEPS.items():
        after_import(name, step)


def uninstall() -> None:
    """Undo `install`: every name is what it was. Pools that were made meanwhile stay what they are."""
    for name, step in _STEPS.items():
        forget(name, step)
    while _undo:
        _undo.pop()()


def _replace(owner: Any, name: str, value: object) -> None:
    """Set an attribute until `uninstall`."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    _undo.append(lambda: delattr(owner, name) if before is missing else setattr(owner, name, before))


def _in_multiprocessing(package: ModuleType) -> None:
    from scalepool.multiprocessing.sharing import SHARED

    spawn = package.get_context("spawn")
    for name in SHARED:
        _replace(package, name, getattr(spawn, name))
    _replace(package, "Pool", _pool)
    _replace(package.context.BaseContext, "Pool", _pool_of_context)
    fork = getattr(package.context, "ForkContext", None)  # there is none on Windows
    if fork is not None:
        for name in SHARED:
            _replace(fork, name, staticmethod(getattr(spawn, name)))


def _pool(*args: Any, **kwargs: Any) -> Any:
    """Return a `scalepool.multiprocessing.Pool`: what ``multiprocessing.Pool`` is after `install`."""
    from scalepool.multiprocessing.pool import Pool

    return Pool(*args, **kwargs)


def _pool_of_context(
    self: Any,
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Any = (),
    maxtasksperchild: int | None = None,
) -> Any:
    """Return a `scalepool.multiprocessing.Pool` with this context."""
    return _pool(processes, initializer, initargs, maxtasksperchild, context=self)


def _in_pool(module: ModuleType) -> None:
    from scalepool.multiprocessing.pool import Pool

    # The module's own code calls its Pool by this name, also for thread pools: it keeps it, others get another module.
    shown = _Shown(module)
    vars(shown)["Pool"] = Pool
    _show(shown)
    _undo.append(lambda: _show(module))


def _show(module: ModuleType) -> None:
    sys.modules["multiprocessing.pool"] = module
    sys.modules["multiprocessing"].pool = module  # type: ignore[attr-defined]


class _Shown(ModuleType):
    """What others get for a module: what it does not have itself is the original's."""

    def __init__(self, original: ModuleType) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update({name: value for name, value in vars(original).items() if name.startswith("__")})
        self.__dict__["_original"] = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.__dict__["_original"], name, value)

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_original"])


def _in_process(module: ModuleType) -> None:
    import concurrent.futures as package

    from scalepool.concurrent.futures import ProcessPoolExecutor

    _replace(module, "ProcessPoolExecutor", ProcessPoolExecutor)
    if "ProcessPoolExecutor" in vars(package):  # else it comes from the module, when somebody asks
        _replace(package, "ProcessPoolExecutor", ProcessPoolExecutor)


def _in_joblib(parallel: ModuleType) -> None:
    # joblib's own function can set a default, but none can tell what it was.
    _replace(parallel, "DEFAULT_BACKEND", BACKEND_NAME)


_STEPS: Final = {
    "multiprocessing": _in_multiprocessing,
    "multiprocessing.pool": _in_pool,
    "concurrent.futures.process": _in_process,
    PARALLEL: _in_joblib,
}
