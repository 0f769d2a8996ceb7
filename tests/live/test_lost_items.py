"""Items of streams, and of tasks with num_returns="dynamic", that are lost in real sessions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live.test_lineage_live import COUNT, _count, _damage, _ended, _ready, _session, _sum
from scalepool.errors import ObjectLostError

np = pytest.importorskip("numpy")

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

__all__ = ["_ended"]  # the fixture that ends the session of each test


def _items(path: str, number: int, stop: str = "") -> Iterator[Any]:
    """Yield arrays whose content is their position; with ``stop`` wait before the last for that file."""
    times = _count(path)
    for position in range(number):
        if stop and position == number - 1 and times == 1:
            while not Path(stop).exists():
                os.sched_yield()
        _count(f"{path}.{position}")
        yield np.full(COUNT, float(position))


def _calls(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("how", ["streaming", "dynamic"])
def test_the_lost_ones_are_made_again_and_no_others(how: str, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    task = scalepool.remote(max_retries=2, num_returns=how)(_items).remote(str(path), 6)
    refs = list(scalepool.get(task, timeout=60) if how == "dynamic" else task)
    del task
    _ready(refs)
    _damage(refs[1], refs[3])
    assert (scalepool.get(refs[3], timeout=60) == 3.0).all()
    assert (scalepool.get(refs[1], timeout=60) == 1.0).all()
    assert 2 <= _calls(path) <= 3, "once, or once more as the other one had gone by when it was found to be lost"
    for position, ref in enumerate(refs):
        assert (scalepool.get(ref) == position).all()


@pytest.mark.parametrize("how", ["streaming", "dynamic"])
def test_for_tasks_that_need_them(how: str, tmp_path: Path) -> None:
    task = scalepool.remote(max_retries=1, num_returns=how)(_items).remote(str(tmp_path / "calls"), 3)
    refs = list(scalepool.get(task, timeout=60) if how == "dynamic" else task)
    _ready(refs)
    _damage(*refs)
    sums = [scalepool.remote(_sum).remote(ref) for ref in refs]
    assert scalepool.get(sums, timeout=60) == [position * COUNT for position in range(3)]


def test_while_the_stream_runs(tmp_path: Path) -> None:
    stop, path = tmp_path / "stop", tmp_path / "calls"
    stream = scalepool.remote(max_retries=1)(_items).remote(str(path), 4, str(stop))
    refs = [next(stream) for _ in range(3)]
    _ready(refs)
    _damage(refs[1])
    assert (scalepool.get(refs[1], timeout=60) == 1.0).all()
    stop.touch()
    refs += list(stream)
    assert [scalepool.get(ref, timeout=60)[0] for ref in refs] == [0.0, 1.0, 2.0, 3.0]
    assert _calls(path) == 2


def test_while_the_stream_waits_for_its_reader(tmp_path: Path) -> None:
    stream = scalepool.remote(max_retries=3, generator_backpressure=1)(_items).remote(str(tmp_path / "calls"), 3)
    for position, ref in enumerate(stream):
        _ready([ref])
        if position == 1:
            _damage(ref)
        assert (scalepool.get(ref, timeout=60) == position).all()


@pytest.mark.parametrize("how", ["streaming", "dynamic"])
def test_without_retries_the_error_names_the_task_and_the_node(how: str, tmp_path: Path) -> None:
    task = scalepool.remote(num_returns=how)(_items).remote(str(tmp_path / "calls"), 2)
    refs = list(scalepool.get(task, timeout=60) if how == "dynamic" else task)
    _ready(refs)
    _damage(refs[0])
    with pytest.raises(ObjectLostError, match=r"of _items is lost.*worker.*max_retries") as caught:
        scalepool.get(refs[0], timeout=60)
    assert (caught.value.task, caught.value.host) == ("_items", os.uname().nodename)
    assert (scalepool.get(refs[1]) == 1.0).all()


def _fewer_each_time(path: str) -> Iterator[Any]:
    for position in range(4 - _count(path)):
        yield np.full(COUNT, float(position))


@pytest.mark.parametrize("how", ["streaming", "dynamic"])
def test_one_that_does_not_yield_the_same_again(how: str, tmp_path: Path) -> None:
    task = scalepool.remote(max_retries=1, num_returns=how)(_fewer_each_time).remote(str(tmp_path / "calls"))
    refs = list(scalepool.get(task, timeout=60) if how == "dynamic" else task)
    _ready(refs)
    assert len(refs) == 3
    _damage(refs[2])
    with pytest.raises(ObjectLostError, match="yielded 2 items only"):
        scalepool.get(refs[2], timeout=60)
    assert (scalepool.get(refs[1], timeout=60) == 1.0).all()


def test_nothing_is_kept_in_the_end(tmp_path: Path) -> None:
    for how in ("streaming", "dynamic"):
        task = scalepool.remote(max_retries=1, num_returns=how)(_items).remote(str(tmp_path / how), 3)
        refs = list(scalepool.get(task, timeout=60) if how == "dynamic" else task)
        _ready(refs)
        _damage(refs[2])
        assert (scalepool.get(refs[2], timeout=60) == 2.0).all()
        del refs, task
    state = _session().hub._state
    while state.values.recipes_by_task or state.values.recipes or len(state.values) or state.streams:
        scalepool.wait([scalepool.put(0)])
