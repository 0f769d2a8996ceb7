"""One adapter per library, all with the same few operations. A library is imported when its driver is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from scalepool.bench.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Driver", "load"]

_WHERE: Final[Mapping[str, str]] = {
    "scalepool": "own:PoolDriver",
    "scalepool.Executor": "own:ExecutorDriver",
    "multiprocessing.Pool": "stdlib:PoolDriver",
    "ProcessPoolExecutor": "stdlib:ExecutorDriver",
    "serial": "stdlib:SerialDriver",
    "loky": "loky_driver:LokyDriver",
    "joblib": "joblib_driver:JoblibDriver",
    "mpire": "mpire_driver:MpireDriver",
    "dask": "dask_driver:DaskDriver",
    "ray": "ray_driver:RayDriver",
}


def load(candidate: str) -> type[Driver]:
    """Return the driver's class of a candidate, its library imported: making one measures no imports."""
    module, _, name = _WHERE[candidate].partition(":")
    found: type[Driver] = getattr(importlib.import_module(f"scalepool.bench.drivers.{module}"), name)
    return found
