"""What a hub does when the hosts of its cluster come, go, or are to be shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _core.dialogue import ends, killed, notes, runs, sent, started
from _core.test_actors import Stage
from _core.test_leasing import Talk, gpus_of
from scalepool._base.amounts import UNIT
from scalepool._core.commands import StartWorker
from scalepool._core.events import HostFacts, HostsChanged, LaunchFailed, Move, ShareChanged, WorkerPlaced
from scalepool._core.resources import ENOUGH, label_name
from scalepool._core.sharing import SPARE_S
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalepool._core.commands import Command


class Away(Talk):
    """A dialogue of a hub on a cluster; a head puts its pools' workers where it is told to."""

    def hosts(self, **slots: int) -> None:
        """These there are: ``h1=4`` is host 1 with 4 CPUs, ``g1`` one with GPUs, ``x1`` is to leave, ``z1`` at once."""
        self.happens(HostsChanged(tuple(_host(name, count) for name, count in slots.items())))

    def brings(self, placed: Iterable[Command], host: int) -> list[int]:
        """These workers, which may start anywhere, are put on this host, and get ready."""
        found = started(placed)
        for worker in found:
            self.happens(WorkerPlaced(worker, host))
        for worker in found:
            self.gets_ready(worker)
        return found


def _host(name: str, count: int) -> HostFacts:
    number, leaving = int(name[1:]), {"h": 0, "g": 0, "x": 1, "z": 2}[name[0]]
    amounts = {"CPU": count * UNIT, label_name("at", name): ENOUGH}
    if name[0] == "g":
        amounts["GPU"] = 2 * UNIT
    return HostFacts(number, f"host{number}", count, amounts, leaving)


def homes(commands: Iterable[Command]) -> list[int]:
    return sorted(command.host for command in commands if isinstance(command, StartWorker))


# ---- resources are those of one host ----


def test_each_host_gets_as_many_as_fit_there() -> None:
    talk = Away()
    talk.hosts(h1=2, h2=5)
    talk.submits(talk.asks(CPU=2), 20)
    assert homes(talk.heard) == [1, 2, 2]
    assert talk.free() == {"CPU": 7, "label at=h1": ENOUGH / UNIT, "label at=h2": ENOUGH / UNIT}


def test_gpus_are_numbered_on_each_host() -> None:
    talk = Away()
    talk.hosts(g1=4, g2=4, h3=9)
    talk.submits(talk.asks(GPU=1), 9)
    assert homes(talk.heard) == [1, 1, 2, 2]
    assert sorted(gpus_of(talk.heard)) == [(0,), (0,), (1,), (1,)]


def test_a_task_goes_where_its_label_is() -> None:
    talk = Away()
    talk.hosts(h1=2, h2=2)
    wanted = {"CPU": 1, label_name("at", "h2"): 1 / UNIT}
    talk.submits(talk.asks(**wanted), 3)
    assert homes(talk.heard) == [2, 2]


def test_an_idle_worker_of_a_full_host_is_not_waited_for() -> None:
    talk = Away()
    talk.hosts(h1=1, h2=1)
    first, second = talk.asks(CPU=1), talk.asks(CPU=1)
    tasks = talk.submits(first, 1)
    (one,) = started(talk.heard)
    talk.gets_ready(one)
    assert runs(talk.heard) == {one: tasks}
    talk.submits(second, 1)
    (other,) = started(talk.heard)
    assert homes(talk.heard) == [2]
    talk.gets_ready(other)
    assert other in runs(talk.heard)


def test_what_fits_no_host_waits_for_one() -> None:
    talk = Away()
    talk.hosts(h1=1)
    group = talk.asks(CPU=2)
    talk.submits(group)
    assert started(talk.heard) == []
    talk.hosts(h1=1, h2=4)
    assert homes(talk.heard) == [2]


def test_a_host_that_left_meanwhile_says_nothing_about_other_tries() -> None:
    talk = Away()
    talk.hosts(h1=1)
    (task,) = talk.submits(talk.asks(CPU=1))
    for _ in range(9):
        (worker,) = started(talk.heard)
        talk.happens(LaunchFailed(worker, "its host has left the cluster", True))
    talk.gets_ready(*started(talk.heard))
    assert [task] in runs(talk.heard).values()


# ---- no host ----


def test_a_pool_waits_for_the_next_host_when_the_only_one_leaves() -> None:
    talk = Away()
    talk.hosts(h1=1)
    group = talk.opens(2)
    tasks = talk.submits(group, 2)
    one, two = talk.brings(talk.heard, 1)
    more = talk.submits(group, 3)
    talk.hosts(x1=1)
    talk.finishes(one, tasks[:1])
    talk.finishes(two, tasks[1:])
    assert ends(talk.heard) == {tasks[1]: Status.VALUE}
    assert sent(talk.heard, m.Run) == [], "nothing new is begun there"
    for worker in (one, two):
        talk.dies(worker, exitcode=0)
    talk.hosts()
    said = talk.later(60.0)
    assert (started(said), ends(said)) == ([], {})
    assert notes(said) == [
        "3 tasks waited 10 s for a host to join: at least 1 slot needed, 0 available, as the cluster has no host"
    ]
    talk.hosts(h2=4)
    talk.brings(talk.heard, 2)
    for worker, given in runs(talk.heard).items():
        talk.finishes(worker, given)
        assert set(ends(talk.heard)) <= set(more)
    assert talk.hub.has_worker(3)


def test_an_order_for_which_there_was_no_host_any_more_is_no_failure() -> None:
    talk = Away()
    talk.hosts(h1=1)
    talk.submits(talk.opens(1))
    (worker,) = started(talk.heard)
    talk.hosts(x1=1)
    talk.happens(LaunchFailed(worker, "the cluster has no host that stays", True))
    assert (started(talk.heard), ends(talk.heard)) == ([], {})
    assert "0 available, as the cluster has no host; 1 is about to leave" in notes(talk.later(11.0))[0]
    talk.hosts(h2=1)
    assert len(started(talk.heard)) == 1


def test_workers_wanted_at_hand_are_started_when_a_host_comes_and_nobody_is_told() -> None:
    talk = Away()
    talk.hosts(x1=1)
    group = talk.opens(2)
    talk.says(DRIVER, m.StartWorkers(group))
    assert started(talk.heard) == []
    assert notes(talk.later(60.0)) == []
    talk.hosts(h2=2)
    assert len(started(talk.heard)) == 2


def test_an_actor_waits_for_a_host() -> None:
    talk = Stage()
    talk.happens(HostsChanged(()))
    talk.engages()
    assert started(talk.heard) == []
    talk.happens(HostsChanged((_host("h1", 1),)))
    assert len(started(talk.heard)) == 1


# ---- growing ----


def test_remote_functions_use_a_host_that_joins() -> None:
    talk = Away()
    talk.hosts(h1=1)
    talk.submits(talk.asks(1, CPU=1), 9)
    assert homes(talk.heard) == [1]
    talk.hosts(h1=1, h2=3)
    assert homes(talk.heard) == [2, 2, 2]


def test_a_pool_without_a_size_follows_the_cluster_and_one_with_a_size_does_not() -> None:
    talk = Away()
    talk.hosts(h1=2)
    elastic, fixed = talk.new_id(), talk.opens(2, kind=9)
    talk.says(DRIVER, m.OpenGroup(elastic, 0, 1, 2, 0, 0, b"spec", elastic=1))
    for group in (elastic, fixed):
        talk.says(DRIVER, m.StartWorkers(group))
        talk.brings(talk.heard, 1)
    talk.hosts(h1=2, h2=3)
    assert len(started(talk.heard)) == 3
    talk.brings(talk.heard, 2)
    talk.hosts(h1=2)
    assert started(talk.heard) == []


# ---- leaving ----


def test_a_host_that_is_to_leave_is_emptied() -> None:
    talk = Away()
    talk.hosts(h1=1, h2=1)
    group = talk.opens(2)
    talk.says(DRIVER, m.StartWorkers(group))
    one, two = started(talk.heard)
    for worker, host in ((one, 1), (two, 2)):
        talk.happens(WorkerPlaced(worker, host))
        talk.gets_ready(worker)
    talk.submits(group, 2)
    held = runs(talk.heard)
    talk.hosts(x1=1, h2=1)
    assert len(started(talk.heard)) == 1, "its place in the pool is taken"
    assert sent(talk.heard, m.Exit, one) == [], "it is in a task"
    talk.finishes(one, held[one])
    assert len(sent(talk.heard, m.Exit, one)) == 1
    more = talk.submits(group, 1)
    assert one not in runs(talk.heard)
    assert more


def test_idle_workers_of_a_host_that_is_to_leave_go_at_once() -> None:
    talk = Away()
    talk.hosts(h1=1, h2=1)
    tasks = talk.submits(talk.asks(CPU=1))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, tasks)
    talk.hosts(x1=1, h2=1)
    assert len(sent(talk.heard, m.Exit, worker)) == 1


def test_when_its_time_is_up_workers_are_killed() -> None:
    talk = Away()
    talk.hosts(h1=1, h2=1)
    (task,) = talk.submits(talk.asks(CPU=1))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.hosts(x1=1, h2=1)
    assert killed(talk.heard) == {}
    talk.hosts(z1=1, h2=1)
    assert list(killed(talk.heard)) == [worker]
    assert killed(talk.later(0.5)) == {}
    talk.dies(worker, task)


# ---- moving ----


def test_a_worker_moves_when_its_successor_is_ready() -> None:
    talk = Away()
    talk.hosts(h1=1, h2=1)
    group = talk.opens(2)
    talk.says(DRIVER, m.StartWorkers(group))
    one, two = talk.brings(talk.heard, 1)
    talk.happens(Move(1, 2, 1))
    (order,) = [command for command in talk.heard if isinstance(command, StartWorker)]
    assert order.host == 2
    assert not sent(talk.heard, m.Exit, one) + sent(talk.heard, m.Exit, two)
    talk.happens(WorkerPlaced(order.worker, 2))
    talk.gets_ready(order.worker)
    assert len(sent(talk.heard, m.Exit, one) + sent(talk.heard, m.Exit, two)) == 1


# ---- sharing ----


def test_no_more_are_at_work_than_the_share_and_nothing_is_stopped() -> None:
    talk = Away()
    talk.hosts(h1=2, h2=2)
    group = talk.opens(4)
    talk.says(DRIVER, m.StartWorkers(group))
    workers = talk.brings(talk.heard, 1)
    talk.submits(group, 4)
    held = runs(talk.heard)
    assert set(held) == set(workers)
    talk.happens(ShareChanged(1))
    talk.submits(group, 8)
    assert runs(talk.heard) == {}
    for worker in workers[:2]:
        talk.finishes(worker, held[worker])
        assert runs(talk.heard) == {}, "two others still are at work"
    talk.finishes(workers[2], held[workers[2]])
    assert list(runs(talk.heard)) == [workers[3]]
    said = talk.later(SPARE_S + 0.5)
    assert sum(len(sent(said, m.Exit, worker)) for worker in workers) >= 2, "who only waits goes"


def test_a_pool_has_its_workers_back_when_it_is_alone_again() -> None:
    talk = Away()
    talk.hosts(h1=4)
    group = talk.opens(4)
    talk.says(DRIVER, m.StartWorkers(group))
    workers = talk.brings(talk.heard, 1)
    talk.happens(ShareChanged(1))
    said = talk.later(SPARE_S + 0.5)
    gone = [worker for worker in workers if sent(said, m.Exit, worker)]
    assert len(gone) == 3
    for worker in gone:
        talk.dies(worker, exitcode=0)
        assert started(talk.heard) == []
    talk.happens(ShareChanged(0))
    assert len(started(talk.heard)) == 3


def test_how_much_a_session_could_use() -> None:
    talk = Away()
    talk.hosts(h1=4)
    assert talk.hub.wanted() == 0
    group = talk.opens(3)
    tasks = talk.submits(group, 2)
    assert talk.hub.wanted() == 2
    talk.submits(group, 20)
    assert talk.hub.wanted() == 3
    for worker in talk.brings(started_orders(talk), 1):
        assert worker
    assert talk.hub.wanted() == 3
    assert tasks


def started_orders(talk: Away) -> list[Command]:
    return [StartWorker(worker.id, b"") for worker in talk.hub._state.roster.workers.values() if not worker.pid]
