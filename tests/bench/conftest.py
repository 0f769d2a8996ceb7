"""Tests that measure run only when they are asked for: ``python -m pytest -m bench tests/bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scalepool.bench.launch import Order

if TYPE_CHECKING:
    from collections.abc import Callable


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "bench" in config.getoption("markexpr"):
        return
    measuring = [item for item in items if item.get_closest_marker("bench") is not None]
    if measuring:
        config.hook.pytest_deselected(items=measuring)
        items[:] = [item for item in items if item not in measuring]


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Order]:
    """Return a function that makes orders for the workloads of ``bench_fakes``."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")

    def make(workload: str, *, timeout_s: float = 60.0, **options: bool) -> Order:
        return Order(workload, "serial", 1, {"tasks": 10}, timeout_s, catalogue="bench_fakes:WORKLOADS", **options)

    return make
