"""Where code runs, and when what has run, as real sessions tell."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from scalepool.errors import SessionError, TaskCancelledError
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live


def _context() -> dict[str, Any]:
    context = scalepool.get_runtime_context()
    return {
        **context.get(),
        "task_hex": context.get_task_id(),
        "function": context.get_task_function_name(),
        "is_driver": context.is_driver,
        "depth": context.depth,
        "gpus": context.get_accelerator_ids(),
        "real_pid": os.getpid(),
    }


async def _later_context() -> dict[str, Any]:
    await asyncio.sleep(0)
    return _context()


def _around(directory: str) -> tuple[dict[str, Any], dict[str, Any]]:
    inner = scalepool.get(scalepool.remote(_context).remote())
    return scalepool.get_runtime_context().get(), inner


def _dies_once(path: str) -> int:
    try:
        Path(path).touch(exist_ok=False)
        os._exit(3)
    except FileExistsError:
        return scalepool.get_runtime_context().attempt_number


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    scalepool.shutdown()
    yield
    scalepool.shutdown()


def test_a_task_knows_where_it_runs() -> None:
    ref = scalepool.remote(_context).remote()
    found = scalepool.get(ref)
    driver = scalepool.get_runtime_context()
    assert found["task_id"] == ref.id
    assert int(found["task_hex"], 16) == ref.id
    assert found["task_name"] == found["function"] == "_context"
    assert found["pid"] == found["real_pid"] != os.getpid()
    assert found["worker_id"] > 0
    assert found["node_id"] == driver.get_node_id() == scalepool.nodes()[0].node_id
    assert found["host_name"] == socket.gethostname()
    assert found["job_id"] == driver.get_job_id()
    assert (found["attempt_number"], found["depth"], found["is_driver"], found["actor_id"]) == (0, 1, False, None)


def test_the_driver_has_a_context_without_a_task() -> None:
    context = scalepool.get_runtime_context()
    assert context.is_driver
    assert (context.task_id, context.get_task_id(), context.get_task_name(), context.get_actor_id()) == (None,) * 4
    assert (context.worker_id, context.pid, context.depth, context.attempt_number) == (0, os.getpid(), 0, 0)
    assert "worker_id=0" in repr(context)


def test_nested_tasks_know_themselves() -> None:
    outer, inner = scalepool.get(scalepool.remote(_around).remote(""))
    assert outer["task_name"] == "_around"
    assert inner["task_name"] == "_context"
    assert outer["task_id"] != inner["task_id"]
    assert outer["job_id"] == inner["job_id"]


def test_a_second_attempt_knows_that_it_is_one(tmp_path: Path) -> None:
    ref = scalepool.remote(max_retries=1)(_dies_once).remote(str(tmp_path / "died"))
    assert scalepool.get(ref) == 1


def test_tasks_of_pools_have_a_context_too() -> None:
    with Pool(2) as pool:
        found = pool.apply(_context)
    assert found["task_id"] is not None
    assert found["pid"] == found["real_pid"]


class _Where:
    def where(self) -> dict[str, Any]:
        return _context()

    def dies_once(self, path: str) -> bool:
        if not Path(path).exists():
            Path(path).touch()
            os._exit(3)
        return scalepool.get_runtime_context().was_current_actor_reconstructed


class _AsyncWhere:
    async def where(self) -> dict[str, Any]:
        before = _context()
        await asyncio.sleep(0.01)
        after = await asyncio.create_task(_later_context())  # coroutines of the call belong to it
        assert after == before
        return after


@pytest.mark.parametrize("threads", [1, 2])
def test_a_method_knows_its_actor(threads: int) -> None:
    actor = scalepool.remote(max_concurrency=threads)(_Where).remote()
    ref = actor.where.remote()
    found, again = scalepool.get([ref, actor.where.remote()])
    assert found["task_id"] == ref.id
    assert found["actor_id"] == again["actor_id"] is not None
    assert found["task_name"].endswith("where")
    assert (found["actor_name"], found["resources"]) == ("", {})
    plain = scalepool.get(scalepool.remote(_context).remote())
    assert (plain["actor_id"], plain["actor_name"]) == (None, None)


def test_coroutine_methods_at_the_same_time_know_themselves() -> None:
    actor = scalepool.remote(name="watcher", num_cpus=0.25)(_AsyncWhere).remote()
    refs = [actor.where.remote() for _ in range(20)]
    for ref, found in zip(refs, scalepool.get(refs), strict=True):
        assert found["task_id"] == ref.id
        assert found["task_name"] == "_AsyncWhere.where"
        assert (found["actor_name"], found["resources"], found["depth"]) == ("watcher", {"CPU": 0.25}, 1)


def test_an_actor_that_began_anew_knows(tmp_path: Path) -> None:
    actor = scalepool.remote(max_restarts=1, max_task_retries=1)(_Where).remote()
    assert scalepool.get(actor.dies_once.remote(str(tmp_path / "died"))) is True
    fresh = scalepool.remote(_Where).remote()
    assert scalepool.get(fresh.dies_once.remote(str(tmp_path / "died"))) is False


def test_tasks_and_actors_know_what_they_hold() -> None:
    scalepool.init(num_cpus=2, num_gpus=3, resources={"oven": 2})
    half = scalepool.remote(num_cpus=0.5, resources={"oven": 1.5})(_context)
    plain, found, gpus = scalepool.get(
        [scalepool.remote(_context).remote(), half.remote(), half.options(num_gpus=2, memory="1GiB").remote()]
    )
    assert (plain["resources"], plain["gpus"]) == ({"CPU": 1.0}, {"GPU": []})
    assert found["resources"] == {"CPU": 0.5, "oven": 1.5}
    assert gpus["resources"] == {"CPU": 0.5, "GPU": 2.0, "memory": float(1 << 30), "oven": 1.5}
    assert len(set(gpus["gpus"]["GPU"])) == 2
    actor = scalepool.remote(num_gpus=1, max_concurrency=2)(_Where).remote()
    held = scalepool.get(actor.where.remote())
    assert (held["resources"], len(held["gpus"]["GPU"])) == ({"GPU": 1.0}, 1)
    driver = scalepool.get_runtime_context()
    assert (driver.get_assigned_resources(), driver.get_accelerator_ids()) == ({}, {"GPU": []})


# ---- the timeline ----


def _square(number: int) -> int:
    return number * number


def _fails(_: int) -> None:
    raise ValueError("as it should")


def _check_schema(events: list[dict[str, Any]]) -> None:
    """What the Trace Event Format asks for."""
    opened: dict[tuple[Any, ...], int] = {}
    for event in events:
        assert event["ph"] in ("X", "b", "e", "M")
        assert isinstance(event["name"], str)
        assert event["name"]
        assert event["ts"] >= 0
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["dur"] >= 0
        elif event["ph"] in ("b", "e"):
            key = (event["pid"], event["cat"], event["id"], event["name"])
            opened[key] = opened.get(key, 0) + (1 if event["ph"] == "b" else -1)
            assert opened[key] in (0, 1)
    assert not any(opened.values()), "every beginning has its end"
    lanes: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in events:
        if event["ph"] == "X":
            lanes.setdefault((event["pid"], event["tid"]), []).append(event)
    for ran in lanes.values():
        outer: list[float] = []
        for event in sorted(ran, key=lambda event: (event["ts"], -event["dur"])):
            while outer and outer[-1] <= event["ts"]:
                outer.pop()
            end = event["ts"] + event["dur"]
            assert not outer or end <= outer[-1] + 1, "in a lane tasks are inside of each other, or apart"
            outer.append(end)


def test_a_timeline_shows_every_task_once_and_in_order(tmp_path: Path) -> None:
    scalepool.init(num_cpus=2, timeline=True)
    square = scalepool.remote(_square)
    refs = [square.remote(square.remote(number)) for number in range(20)]
    assert scalepool.get(refs) == [number**4 for number in range(20)]
    with pytest.raises(ValueError, match="as it should"):
        scalepool.get(scalepool.remote(_fails).remote(1))
    with Pool(2) as pool:
        assert pool.map(_square, range(10)) == [number**2 for number in range(10)]

    path = tmp_path / "trace.json"
    assert scalepool.timeline(path) is None
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    _check_schema(events)
    ran = [event for event in events if event["ph"] == "X"]
    tasks = [event["args"]["task"] for event in ran]
    assert len(set(tasks)) == len(tasks)
    assert sum(event["name"] == "_square" for event in ran) >= 40
    assert [event["args"]["status"] for event in ran if event["name"] == "_fails"] == ["error"]
    assert {ref.id for ref in refs} <= set(tasks)
    assert {event["pid"] for event in ran}.isdisjoint({os.getpid()})
    named = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert named[os.getpid()] == "scalepool driver"
    assert {event["pid"] for event in events} <= set(named)

    moments: dict[str, dict[str, float]] = {}
    for event in events:
        if event["ph"] in ("b", "e"):
            moments.setdefault(event["id"], {})[f"{event['name']} {event['ph']}"] = event["ts"]
    for event in ran:
        stages = moments[f"{event['args']['task']:x}"]
        end = event["ts"] + event["dur"]
        assert stages["queued b"] <= stages["queued e"] <= event["ts"] + 1
        assert end <= stages["to driver e"] + 1


def _is_there(path: str) -> bool:
    return Path(path).exists()


def _make(path: str) -> None:
    Path(path).touch()


class _Busy:
    def work(self, gate: str) -> int:
        while not Path(gate).exists():
            time.sleep(0.001)
        return 1


class _AsyncBusy:
    async def work(self, gate: str) -> int:
        while not _is_there(gate):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.001)
        return 1

    async def forever(self, started: str) -> None:
        _make(started)
        await asyncio.Event().wait()


def _yields(number: int) -> Iterator[int]:
    yield from range(number)


@pytest.mark.parametrize(("cls", "calls"), [(_Busy, 3), (_AsyncBusy, 5)])
def test_calls_at_the_same_time_have_lanes_of_their_own(cls: type[Any], calls: int, tmp_path: Path) -> None:
    scalepool.init(num_cpus=2, timeline=True)
    actor = scalepool.remote(max_concurrency=calls)(cls).remote()
    for turn in range(2):
        gate = tmp_path / f"gate{turn}"
        refs = [actor.work.remote(str(gate)) for _ in range(calls)]
        scalepool.wait(refs, timeout=0.2)
        gate.touch()
        assert scalepool.get(refs) == [1] * calls
    events = scalepool.timeline()
    assert events is not None
    _check_schema(events)
    ran = [event for event in events if event["ph"] == "X" and event["name"] == f"{cls.__name__}.work"]
    assert len(ran) == 2 * calls
    assert {event["args"]["status"] for event in ran} == {"ok"}
    assert len({event["tid"] for event in ran}) == calls, "and they are used again"
    (pid,) = {event["pid"] for event in ran}
    assert pid not in {event["tid"] for event in ran}, "there it was made"
    about = {event["name"]: event["args"].get("name") for event in events if event["ph"] == "M" and event["pid"] == pid}
    assert cls.__name__ in about["process_name"]


def test_a_call_that_is_cancelled_while_it_runs_is_shown(tmp_path: Path) -> None:
    scalepool.init(num_cpus=2, timeline=True)
    actor = scalepool.remote(_AsyncBusy).remote()
    ref = actor.forever.remote(str(tmp_path / "started"))
    while not (tmp_path / "started").exists():
        scalepool.wait([ref], timeout=0.01)
    scalepool.cancel(ref)
    with pytest.raises(TaskCancelledError):
        scalepool.get(ref)
    (tmp_path / "gate").touch()
    assert scalepool.get(actor.work.remote(str(tmp_path / "gate"))) == 1
    events = scalepool.timeline()
    assert events is not None
    _check_schema(events)
    ended = {event["name"]: event["args"]["status"] for event in events if event["ph"] == "X"}
    assert ended["_AsyncBusy.forever"] == "cancelled"
    assert ended["_AsyncBusy.work"] == "ok"


def test_streams_say_how_much_they_yielded() -> None:
    scalepool.init(num_cpus=2, timeline=True)
    refs = list(scalepool.remote(_yields).remote(7))
    assert scalepool.get(refs) == list(range(7))
    scalepool.get(scalepool.remote(_square).remote(1))
    events = scalepool.timeline()
    assert events is not None
    _check_schema(events)
    (found,) = [event["args"] for event in events if event["ph"] == "X" and event["name"] == "_yields"]
    assert (found["yielded"], found["status"]) == (7, "ok")


def test_a_task_that_dies_is_on_the_timeline(tmp_path: Path) -> None:
    scalepool.init(num_cpus=2, timeline=True)
    assert scalepool.get(scalepool.remote(max_retries=1)(_dies_once).remote(str(tmp_path / "died"))) == 1
    events = scalepool.timeline()
    assert events is not None
    _check_schema(events)
    found = [event["args"] for event in events if event["ph"] == "X"]
    assert [(one["attempt"], one["status"]) for one in found] == [(1, "worker died"), (2, "ok")]


def test_a_timeline_remembers_only_the_last_tasks() -> None:
    scalepool.init(num_cpus=2, timeline=50)
    square = scalepool.remote(_square)
    for _ in range(10):
        scalepool.get(square.map(range(40)))
    events = scalepool.timeline()
    assert events is not None
    assert sum(event["ph"] == "X" for event in events) == 50


def test_without_being_asked_for_there_is_none() -> None:
    with pytest.raises(SessionError, match="there is no session"):
        scalepool.timeline()
    scalepool.init(num_cpus=2)
    with pytest.raises(SessionError, match="keeps no timeline"):
        scalepool.timeline()


def test_an_environment_variable_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEPOOL_TIMELINE", "1")
    assert scalepool.get(scalepool.remote(_square).remote(3)) == 9
    events = scalepool.timeline()
    assert events is not None
    assert [event["name"] for event in events if event["ph"] == "X"] == ["_square"]
