"""The figures of clusters are measured on what they are about, small here."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

import scalepool
from scalepool.bench.run import Run
from scalepool.bench.workloads import WORKLOADS
from scalepool.bench.workloads.clusters import _MeteredHead, _MeteredHub


def measured(name: str, **sizes: int) -> dict[str, float]:
    run = Run("scalepool", 2, sizes)
    WORKLOADS[name].adapters["scalepool"](run)
    assert set(run.values) == {metric.name for metric in WORKLOADS[name].metrics}
    assert all(value > 0 for value in run.values.values())
    return run.values


def test_all_tasks_of_a_long_queue_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    hubs: list[_MeteredHub] = []
    made = _MeteredHub.__init__

    def kept(self: _MeteredHub) -> None:
        hubs.append(self)
        made(self)

    monkeypatch.setattr(_MeteredHub, "__init__", kept)
    found = measured("cluster-queue", tasks=3000, workers=16)
    assert found["queue"] < found["hub"]
    (hub,) = hubs
    hub.hub.check()
    found_there = hub.hub.statistics()
    assert (found_there.queued, found_there.assigned, found_there.workers) == (0, 0, 16)


def test_all_steps_of_a_head_count(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[_MeteredHead] = []
    made = _MeteredHead.__init__

    def kept(self: _MeteredHead) -> None:
        heads.append(self)
        made(self)

    monkeypatch.setattr(_MeteredHead, "__init__", kept)
    found = measured("cluster-hosts", hosts=20, programs=3)
    gc.unfreeze()
    (head,) = heads
    assert len(head.steps_s) == 2 * 3 + 2 * 20 + 4 * 20 + 10 + 3
    assert found["step"] == max(head.steps_s) * 1e3


@pytest.mark.live
def test_tasks_go_through_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", "")  # restored at the end
    root = str(Path(scalepool.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])))
    scalepool.shutdown()
    assert measured("cluster-submissions", tasks=200)["rate"] > 0
    assert not scalepool.is_initialized()
