"""loky: the installed one, else joblib's own copy."""

from __future__ import annotations

import importlib
from typing import Any

from scalepool.bench.candidates import has_module
from scalepool.bench.drivers.base import ExecutorShaped

_loky: Any = importlib.import_module("loky" if has_module("loky") else "joblib.externals.loky")

__all__ = ["LokyDriver"]


class LokyDriver(ExecutorShaped):
    """``loky.get_reusable_executor``."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.executor = _loky.get_reusable_executor(max_workers=workers)

    def close(self) -> None:  # noqa: D102
        self.executor.shutdown(wait=True, kill_workers=True)
