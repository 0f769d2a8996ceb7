"""Remote functions and actors that ask for resources."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import scalepool


def _own() -> tuple[str | None, list[int | str], int]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), scalepool.get_gpu_ids(), os.getpid()


@scalepool.remote(num_gpus=1)
def on_gpu(seconds: float = 0.0) -> tuple[str | None, list[int | str], int]:
    """Say which GPUs are this task's."""
    time.sleep(seconds)
    return _own()


@scalepool.remote
def plain() -> tuple[str | None, list[int | str], int]:
    """The same, without having asked for any."""
    return _own()


@scalepool.remote
def meets(folder: str, count: int, patience_s: float = 30.0) -> int:
    """Wait until ``count`` tasks are in here at once, or patience is over; return how many were seen."""
    (Path(folder) / f"{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}").touch()
    deadline = time.monotonic() + patience_s
    while (seen := len(list(Path(folder).iterdir()))) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    return seen


@scalepool.remote
def counts_inside(folder: str, seconds: float) -> int:
    """Stay for a while, and return how many were inside at most."""
    mine = Path(folder) / f"{os.getpid()}-{time.monotonic_ns()}"
    mine.touch()
    most = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, len(list(Path(folder).iterdir())))
        time.sleep(0.002)
    mine.unlink()
    return most


@scalepool.remote(num_cpus=1)
def parent(depth: int) -> int:
    """Wait for children that need as much as this one."""
    return 1 + sum(scalepool.get([parent.remote(depth - 1) for _ in range(2)])) if depth else 1


@scalepool.remote(memory="150MB")
def takes(size_bytes: int, shared: Any = None) -> tuple[int, int]:
    """Have so much memory; say who."""
    data = np.ones(size_bytes, dtype=np.uint8)
    extra = 0 if shared is None else int(shared[-1])
    return int(data[-1]) + extra, os.getpid()


@scalepool.remote
def free_inside() -> tuple[dict[str, float], dict[str, float], int]:
    """What a task sees of the session."""
    return scalepool.available_resources(), scalepool.cluster_resources(), len(scalepool.nodes())


@scalepool.remote
class Holder:
    """Holds what it was given."""

    def own(self) -> tuple[str | None, list[int | str], int]:
        return _own()

    def take(self, size_bytes: int) -> int:
        return int(np.ones(size_bytes, dtype=np.uint8)[-1])

    def die(self) -> None:
        os._exit(1)
