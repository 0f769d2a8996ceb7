"""Makes joblib know the backend name ``"scalepool"``, without importing joblib.

Where joblib is imported already its public registry is told at once, else when it is imported. Nothing of joblib is
changed but its registry of backends, by its own function; the backend's code is imported when a backend is first made.
"""

from __future__ import annotations

from scalepool._base.imports import after_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Final

__all__ = ["BACKEND_NAME", "PARALLEL", "install"]

BACKEND_NAME: Final = "scalepool"
PARALLEL: Final = "joblib.parallel"
"""The module of joblib that has the registry."""


def install() -> None:
    """Register the backend now, or as soon as joblib is imported. Costs microseconds."""
    after_import(PARALLEL, _register)


def _register(parallel: ModuleType) -> None:
    if BACKEND_NAME not in parallel.BACKENDS:
        parallel.register_parallel_backend(BACKEND_NAME, _make_backend)


def _make_backend(**options: Any) -> object:
    """Make a backend as joblib does, from the name and the options of ``parallel_config``."""
    from scalepool.joblib_backend import ScalepoolBackend

    return ScalepoolBackend(**options)
