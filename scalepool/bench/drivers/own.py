"""scalepool's two pools."""

from __future__ import annotations

from scalepool.bench.drivers.base import ExecutorShaped, PoolShaped
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

__all__ = ["ExecutorDriver", "PoolDriver"]


class PoolDriver(PoolShaped):
    """``scalepool.multiprocessing.Pool``."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pool = Pool(workers)


class ExecutorDriver(ExecutorShaped):
    """``scalepool.concurrent.futures.ProcessPoolExecutor``."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.executor = ProcessPoolExecutor(workers)
