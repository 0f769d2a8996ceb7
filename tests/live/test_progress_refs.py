"""scalepool.progress over references."""

from __future__ import annotations

from typing import Any

import pytest

import scalepool
from live import generator_tasks
from live import remote_tasks as tasks

pytestmark = pytest.mark.live


def test_references_come_and_count_as_they_are_over() -> None:
    reports: list[Any] = []
    slow, bad = tasks.sleeps.remote(0.5), tasks.add.remote(1, "x")
    others = tasks.add.map(range(20))
    seen = list(scalepool.progress([slow, bad, *others, bad], show=lambda *report: reports.append(report)))
    assert set(seen) == {slow, bad, *others}
    assert seen[-1] is slow
    assert reports[-1] == (22, 22, 1)


def test_a_stream() -> None:
    reports: list[Any] = []
    stream = scalepool.progress(generator_tasks.counts.remote(5), total=5, show=lambda *report: reports.append(report))
    assert scalepool.get(list(stream)) == [0, 1, 2, 3, 4]
    assert reports[-1] == (5, 5, 0)
