"""Who gets what a session has: how many at once, in which order, and what the user is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _core.dialogue import Dialogue, killed, notes, runs, sent, started
from scalepool._base.amounts import UNIT
from scalepool._core.commands import StartWorker
from scalepool._core.events import Received
from scalepool._core.leasing import FOR_LIFE, PATIENCE_S, WARN_AFTER_S, WHILE_IT_RUNS
from scalepool._core.resources import Demand
from scalepool._wire import messages as m
from scalepool._wire.actors import OpenActor
from scalepool._wire.messages import DRIVER
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalepool._core.commands import Command


class Talk(Dialogue):
    """A dialogue about resources."""

    def __init__(self, **total: float) -> None:
        super().__init__()
        self.hub._state.capacity = lambda: {name: round(amount * UNIT) for name, amount in total.items()}

    def asks(self, cap: int = 9, *, peer: int = DRIVER, parent: int = 0, **amounts: float) -> int:
        """Open a group whose tasks need this."""
        group = self.new_id(peer)
        wanted = Demand.of({name: round(amount * UNIT) for name, amount in amounts.items()})
        self.says(peer, opened(group, wanted, cap, parent))
        return group

    def free(self) -> dict[str, float]:
        found = self.hub.free_resources()
        assert found is not None
        return {name: amount / UNIT for name, amount in found.items()}

    def runs_on(self, group: int, worker: int) -> int:
        """Submit one task, which this worker gets."""
        (task,) = self.submits(group)
        assert runs(self.heard) == {worker: [task]}
        return task


def opened(group: int, wanted: Demand, cap: int = 9, parent: int = 0, lease: int = WHILE_IT_RUNS) -> m.OpenGroup:
    names = [name.encode() for name, _ in wanted.amounts]
    amounts = [amount for _, amount in wanted.amounts]
    return m.OpenGroup(group, parent, 1 + wanted.gpus, cap, 0, 0, b"spec", 0, 0, lease, names, amounts)


def gpus_of(commands: Iterable[Command]) -> list[tuple[int, ...]]:
    return [command.gpus for command in commands if isinstance(command, StartWorker)]


# ---- how many ----


@pytest.mark.parametrize(("cpus", "expected"), [(1, 4), (0.5, 8), (3, 1), (4, 1), (0, 9)])
def test_as_many_workers_are_started_as_fit(cpus: float, expected: int) -> None:
    talk = Talk(CPU=4)
    talk.submits(talk.asks(CPU=cpus), 20)
    assert len(started(talk.heard)) == expected


def test_a_worker_holds_what_its_tasks_need_until_it_has_none() -> None:
    talk = Talk(CPU=2, license=1)
    group = talk.asks(CPU=1, license=0.5)
    tasks = talk.submits(group, 1)
    (worker,) = started(talk.heard)
    assert talk.free() == {"CPU": 2, "license": 1}
    talk.gets_ready(worker)
    assert talk.free() == {"CPU": 1, "license": 0.5}
    talk.finishes(worker, tasks)
    assert talk.free() == {"CPU": 2, "license": 1}


def test_what_a_dead_worker_held_is_free() -> None:
    talk = Talk(CPU=2)
    (task,) = talk.submits(talk.asks(CPU=2))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.dies(worker, task)
    assert talk.free() == {"CPU": 2}


def test_a_task_that_waits_gives_its_cpus_back_and_nothing_else() -> None:
    talk = Talk(CPU=1, license=1)
    outer = talk.asks(CPU=1, license=1)
    talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    inner = talk.asks(peer=worker, parent=outer, CPU=1)
    (child,) = talk.submits(inner, peer=worker)
    talk.says(worker, m.Block([child]))
    assert runs(talk.heard) == {worker: [child]}, "it runs the child itself, with the CPU that it has given back"
    assert talk.free() == {"CPU": 0, "license": 0}
    talk.finishes(worker, [child])
    assert talk.free() == {"CPU": 1, "license": 0}
    talk.says(worker, m.Unblock())
    assert talk.free() == {"CPU": 0, "license": 0}


def test_pools_hold_nothing() -> None:
    talk = Talk(CPU=1)
    talk.submits(talk.opens(3), 3)
    assert len(started(talk.heard)) == 3
    assert talk.hub.free_resources() is None
    talk.submits(talk.asks(CPU=1))
    assert talk.free() == {"CPU": 1}


def test_demands_that_make_no_sense() -> None:
    talk = Talk(CPU=1)
    wanted = Demand.of({"CPU": UNIT})
    wrong = [
        opened(talk.new_id(), Demand.of({"CPU": 2 * UNIT})),
        opened(talk.new_id(), Demand.of({"license": 1})),
        opened(talk.new_id(), wanted)._replace(amounts=[]),
        opened(talk.new_id(), wanted)._replace(amounts=[-1]),
        opened(talk.new_id(), wanted, lease=FOR_LIFE),
        opened(talk.new_id(), wanted, lease=3),
    ]
    for message in wrong:
        with pytest.raises(ProtocolError):
            talk.hub.handle(Received(DRIVER, message), 0.0)
    talk.hub.check()


def test_who_asks_is_told_what_is_free() -> None:
    talk = Talk(CPU=2)
    talk.submits(talk.asks(CPU=0.5))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.says(worker, m.Inquire(77))
    assert sent(talk.heard, m.Inventory, worker) == [m.Inventory(77, [b"CPU"], [15_000])]


# ---- in which order ----


def busy_with_small_ones(talk: Talk, small: int) -> tuple[list[int], dict[int, int]]:
    """Two workers that each hold one task of ``small``, and more of these wait; return workers, and their tasks."""
    talk.submits(small, 20)
    workers = started(talk.heard)
    for worker in workers:
        talk.gets_ready(worker)
    held = {worker: task for worker in workers for task in talk.hub._state.roster.workers[worker].held}
    return workers, held


def test_a_large_task_is_patient_and_then_gets_what_it_needs() -> None:
    talk = Talk(CPU=2)
    small, large = talk.asks(CPU=1), talk.asks(CPU=2)
    (one, two), held = busy_with_small_ones(talk, small)
    (task,) = talk.submits(large)
    talk.finishes(one, [held[one]], micros=50_000)
    assert one in runs(talk.heard), "small ones go on for a while"
    held[one] = runs(talk.heard)[one][0]
    talk.later(PATIENCE_S + 0.01)
    talk.finishes(one, [held[one]], micros=50_000)
    assert runs(talk.heard) == {}, "what becomes free is kept"
    talk.finishes(two, [held[two]], micros=50_000)
    assert [task] in runs(talk.heard).values()
    assert talk.free() == {"CPU": 0}


def test_when_a_large_task_is_cancelled_what_was_kept_for_it_is_free_at_once() -> None:
    talk = Talk(CPU=2)
    small, large = talk.asks(CPU=1), talk.asks(CPU=2)
    (one, _), held = busy_with_small_ones(talk, small)
    (task,) = talk.submits(large)
    talk.later(PATIENCE_S + 0.01)
    talk.finishes(one, [held[one]], micros=50_000)
    assert runs(talk.heard) == {}
    talk.says(DRIVER, m.Cancel([task]))
    assert one in runs(talk.heard)


def test_nothing_is_kept_for_what_an_actor_holds_for_ever() -> None:
    talk = Talk(CPU=2, license=1)
    actor = talk.new_id()
    talk.says(DRIVER, OpenActor(actor, 0, b"spec", 0, 1, 0, b"", b"A", b"meta", [b"license"], [UNIT]))
    talk.says(DRIVER, m.Submit(actor, 0, [7], [b"f"], [actor], [7], [b""], returns=[1]))
    (worker,) = started(talk.heard)
    assert talk.free()["license"] == 0, "it is the actor's from the order of its process on"
    small, waits = talk.asks(CPU=1), talk.asks(CPU=2, license=1)
    workers, held = busy_with_small_ones(talk, small)
    talk.submits(waits)
    talk.later(PATIENCE_S + 0.01)
    talk.finishes(workers[0], [held[workers[0]]], micros=50_000)
    assert workers[0] in runs(talk.heard)
    talk.dies(worker)


# ---- what the user is told ----


def test_the_user_is_told_once_what_is_missing() -> None:
    talk = Talk(CPU=4, license=1)
    holder, waiter = talk.asks(license=1), talk.asks(CPU=1, license=0.5)
    talk.submits(holder)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.submits(waiter, 2)
    assert notes(talk.later(WARN_AFTER_S - 0.1)) == []
    assert notes(talk.later(0.2)) == ["2 tasks waited 10 s for resources: 0.5 license needed, 0 of 1 free"]
    assert notes(talk.later(1000)) == []


def test_nobody_is_told_of_tasks_that_others_of_their_kind_are_before() -> None:
    talk = Talk(CPU=1)
    busy_with_small_ones(talk, talk.asks(CPU=1))
    assert notes(talk.later(100)) == []


# ---- GPUs ----


def test_workers_are_told_their_gpus_and_keep_them() -> None:
    talk = Talk(CPU=4, GPU=2)
    group = talk.asks(GPU=1)
    first, second, _ = talk.submits(group, 3)
    assert gpus_of(talk.heard) == [(0,), (1,)]
    one, two = started(talk.heard)
    talk.gets_ready(one)
    talk.gets_ready(two)
    talk.finishes(two, [second])
    assert list(runs(talk.heard)) == [two]
    talk.finishes(one, [first])
    assert talk.free()["GPU"] == 1
    talk.runs_on(group, one)


def test_as_many_processes_are_ordered_for_gpus_as_there_are_tasks() -> None:
    talk = Talk(CPU=4, GPU=3)
    group = talk.asks(GPU=0.5)
    talk.submits(group)
    assert gpus_of(talk.heard) == [(0,)]
    talk.submits(group)
    assert gpus_of(talk.heard) == [(0,)], "the one that is starting counts for the first"


def test_an_idle_process_leaves_a_gpu_that_another_one_needs() -> None:
    talk = Talk(CPU=4, GPU=1)
    tasks = talk.submits(talk.asks(GPU=1))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, tasks)
    talk.submits(talk.asks(GPU=0.5))
    assert gpus_of(talk.heard) == [(0,)]
    assert sent(talk.heard, m.Exit, worker) == [m.Exit()]


def test_parts_of_one_gpu_live_beside_each_other() -> None:
    talk = Talk(CPU=4, GPU=1)
    group = talk.asks(GPU=0.5)
    first, second = talk.submits(group, 2)
    one, two = started(talk.heard)
    talk.gets_ready(one)
    talk.gets_ready(two)
    talk.finishes(one, [first])
    talk.submits(talk.asks(GPU=0.25))
    assert gpus_of(talk.heard) == [(0,)]
    assert sent(talk.heard, m.Exit, one) == [m.Exit()], "only the idle one gives way"
    talk.finishes(two, [second])
    assert killed(talk.heard) == {}


def test_a_gpu_whose_process_could_not_be_started_is_free() -> None:
    talk = Talk(CPU=4, GPU=1)
    talk.submits(talk.asks(GPU=1))
    (worker,) = started(talk.heard)
    assert talk.free()["GPU"] == 0
    talk.fails_to_start(worker)
    assert talk.free()["GPU"] == 0, "another try has it"
    assert gpus_of(talk.heard) == [(0,)]
