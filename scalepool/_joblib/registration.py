"""Makes joblib know the backend name ``"scalepool"``, without importing joblib.

Where joblib is imported already its public registry is told at once. Else an entry in ``sys.meta_path`` waits for
``joblib.parallel`` to be imported, tells it then, and removes itself. Nothing of joblib is changed but its registry of
backends, by its own function; the backend's code is imported when a backend is first made.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Final

__all__ = ["BACKEND_NAME", "install"]

BACKEND_NAME: Final = "scalepool"
_AWAITED: Final = "joblib.parallel"


def install() -> None:
    """Register the backend now, or as soon as joblib is imported. Costs microseconds; calling it again is harmless."""
    parallel = sys.modules.get(_AWAITED)
    if parallel is not None and hasattr(parallel, "register_parallel_backend"):
        _register(parallel)
    elif not any(isinstance(finder, _ImportHook) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportHook())


def _register(parallel: ModuleType) -> None:
    if BACKEND_NAME not in parallel.BACKENDS:
        parallel.register_parallel_backend(BACKEND_NAME, _make_backend)


def _make_backend(**options: Any) -> object:
    """Make a backend as joblib does, from the name and the options of ``parallel_config``."""
    from scalepool.joblib_backend import ScalepoolBackend

    return ScalepoolBackend(**options)


class _ImportHook:
    """Finds nothing itself; lends ``joblib.parallel`` a loader that registers the backend once the module has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _AWAITED:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec  # type: ignore[no-any-return]
        return None


class _Loader:
    """The module's own loader, and one step after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        # Give the real loader back first: pkgutil and inspect ask for it.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
