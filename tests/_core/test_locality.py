"""A task goes to a free worker on a host that has its large arguments; it does not wait for one."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, runs, sent
from scalepool._core.credit import STALE_S
from scalepool._core.events import WorkerPlaced
from scalepool._core.locality import LARGE_BYTES
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result

ONE, TWO = 1, 2


class Hosts(Dialogue):
    """Two workers on each of two hosts, all idle."""

    def __init__(self, cap: int = 4, homes: tuple[int, ...] = (ONE, ONE, TWO, TWO)) -> None:
        self.copies: dict[int, set[int]] = {}
        super().__init__(copies=self.copies)
        self.group = self.opens(cap)
        ready = self.starts_workers(self.group if cap == len(homes) else self.opens(len(homes)))
        self.homes = dict(zip(ready, homes, strict=True))
        for worker, home in self.homes.items():
            self.happens(WorkerPlaced(worker, home))

    def object(self, *hosts: int, size: int = LARGE_BYTES) -> int:
        """Something that the program holds and these hosts have."""
        number = self.new_id()
        self.copies[number] = set(hosts)
        self.says(DRIVER, m.Put((number, 10, 11, size)))
        return number

    def given(self, *objects: int, count: int = 1) -> list[int]:
        """The hosts that so many tasks with these objects go to."""
        self.submits(self.group, count, references=objects)
        return self.places()

    def places(self) -> list[int]:
        return [self.homes[worker] for worker, tasks in runs(self.heard).items() for _ in tasks]

    def learns(self, micros: int) -> None:
        """Each worker ends one task, so that the length of tasks is known."""
        tasks = [self.submits(self.group)[0] for _ in self.homes]
        for worker, task in [(worker, tasks) for worker, tasks in self._assigned(tasks).items()]:
            self.finishes(worker, task, micros=micros)

    def _assigned(self, tasks: list[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for task in tasks:
            found.setdefault(self.hub._state.tasks[task].worker, []).append(task)
        return found


@pytest.mark.parametrize("host", [ONE, TWO])
def test_a_task_goes_where_its_large_arguments_are(host: int) -> None:
    talk = Hosts()
    there, both, nowhere = talk.object(host), talk.object(ONE, TWO), talk.object()
    assert talk.given(both, nowhere, there) == [host]


@pytest.mark.parametrize(("host", "other"), [(ONE, TWO), (TWO, ONE)])
def test_the_larger_part_counts(host: int, other: int) -> None:
    talk = Hosts()
    large = talk.object(host, size=5 * LARGE_BYTES)
    assert talk.given(talk.object(other), talk.object(other), large) == [host]


def test_small_arguments_do_not_count() -> None:
    found = [talk.given(talk.object(host, size=LARGE_BYTES - 1)) for host in (ONE, TWO) for talk in [Hosts()]]
    assert found[0] == found[1]  # wherever they are, it is the first


def test_nobody_waits_for_a_better_place_and_nobody_idles() -> None:
    talk = Hosts()
    there = talk.object(TWO)
    assert [talk.given(there) for _ in range(4)] == [[TWO], [TWO], [ONE], [ONE]]
    assert talk.given(there) == []


def test_of_many_tasks_at_once_each_finds_its_place() -> None:
    talk = Hosts()
    places = {host: talk.object(host) for host in (ONE, TWO)}
    order = [TWO, ONE, TWO, ONE]
    tasks = [talk.new_id() for _ in order]
    talk.says(DRIVER, m.Submit(
        talk.group, 0, [7], [b"f"], tasks, [7] * 4, [b""] * 4, [1] * 4, [places[host] for host in order], [],
    ))  # fmt: skip
    state = talk.hub._state
    assert [talk.homes[state.tasks[task].worker] for task in tasks] == order


def test_where_few_may_be_used_it_is_those_on_the_right_host() -> None:
    for host in (ONE, TWO):
        talk = Hosts(cap=2)
        assert talk.given(talk.object(host), count=2) == [host, host]


def test_one_that_does_nothing_comes_before_a_near_one_that_works() -> None:
    talk = Hosts(2, (ONE, TWO))
    talk.learns(micros=4000)  # each may hold several
    there = talk.object(TWO)
    assert talk.given(there) == [TWO]
    assert talk.given(there) == [ONE]
    assert talk.given(there) == [TWO]  # now both work, and have room


def test_what_is_called_back_from_a_near_worker_goes_to_one_that_does_nothing_and_stays_there() -> None:
    talk = Hosts(2, (ONE, TWO))
    talk.learns(micros=4000)
    near = talk.object(TWO)
    far = talk.object(ONE)
    first = talk.submits(talk.group, references=[far])
    held = talk.submits(talk.group, 4, references=[near])
    (busy,) = [worker for worker, home in talk.homes.items() if home == TWO]
    (other,) = [worker for worker, home in talk.homes.items() if home == ONE]
    state = talk.hub._state
    idle_next = [task for task in (*first, *held) if state.tasks[task].worker == other]
    talk.now += 2 * STALE_S
    talk.finishes(other, idle_next, micros=4000)
    (recall,) = sent(talk.heard, m.Recall, busy)
    back = list(state.roster.workers[busy].held)[-recall.number :]
    talk.says(busy, m.Returned(back, ()))
    assert runs(talk.heard)[other][0] in back
    for _ in range(5):  # and is not called back again at once
        assert not sent(talk.heard, m.Recall, other)
        talk.later(STALE_S / 4)


def test_values_that_a_task_needs_count_too() -> None:
    for host in (ONE, TWO):
        talk = Hosts()
        task, made = talk.new_id(), talk.new_id()
        talk.says(DRIVER, m.Submit(talk.group, 0, [7], [b"f"], [task], [7], [b""], returns=[1]))
        (worker,) = runs(talk.heard)
        talk.copies[made] = {host}
        record = pack_result(task, 1, Status.VALUE, 1, 5, b"value")
        talk.says(worker, m.Done([record], (made, 10, 11, LARGE_BYTES)))
        user = talk.new_id()
        talk.says(DRIVER, m.Submit(
            talk.group, 0, [7], [b"f"], [user], [7], [b""], returns=[1], need_counts=[1], needs=[task],
        ))  # fmt: skip
        assert talk.places() == [host]


def test_what_is_on_no_host_of_a_worker_goes_to_anybody() -> None:
    talk = Hosts()
    assert talk.given(talk.object(99))
    assert talk.given(12345)  # nobody knows it
    assert talk.given()


def test_a_task_that_left_the_queue_decides_nothing() -> None:
    talk = Hosts()
    talk.given(count=4)
    cancelled = talk.submits(talk.group, references=[talk.object(ONE)])
    talk.submits(talk.group, references=[talk.object(TWO)])
    talk.says(DRIVER, m.Cancel(cancelled))
    busy = {worker: list(talk.hub._state.roster.workers[worker].held) for worker in talk.homes}
    first, *_ = [worker for worker in busy if talk.homes[worker] == TWO]
    talk.finishes(first, busy[first])
    assert talk.places() == [TWO]


def test_of_many_hosts_each_task_finds_its_own_and_what_most_have_decides_nothing() -> None:
    count = 100
    talk = Hosts(count, tuple(range(1, count + 1)))
    objects = [talk.object(host) for host in range(1, count + 1)]
    everywhere = talk.object(*range(1, count), size=3 * LARGE_BYTES)
    tasks = [talk.new_id() for _ in objects]
    references = [number for one in reversed(objects) for number in (everywhere, one)]
    talk.says(DRIVER, m.Submit(
        talk.group, 0, [7], [b"f"], tasks, [7] * count, [b""] * count, [2] * count, references, [],
    ))  # fmt: skip
    state = talk.hub._state
    assert [talk.homes[state.tasks[task].worker] for task in tasks] == list(range(count, 0, -1))
