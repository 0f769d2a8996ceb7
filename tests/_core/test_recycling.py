"""Workers that have grown too large are replaced, the successor first."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, ends, notes, runs, sent, started, told
from scalepool._wire import messages as m

LIMIT = 1000


def grown(talk: Dialogue, worker: int, rss: int = LIMIT + 1) -> list[int]:
    """Let a worker report; return the workers that are ordered."""
    return started(talk.says(worker, m.Memory(rss)))


@pytest.mark.parametrize("private", [True, False])
def test_a_worker_that_has_grown_goes_when_its_successor_is_ready(private: bool) -> None:
    # Given a worker in a task, with more tasks in the queue
    talk = Dialogue()
    group = talk.opens(1, private=private, max_rss=LIMIT)
    first, second, third = talk.submits(group, 3)
    (worker,) = started(talk.heard)
    assert runs(talk.gets_ready(worker)) == {worker: [first]}
    # When it says that it is too large
    (successor,) = grown(talk, worker)
    # Then it works on while its successor starts
    assert runs(talk.finishes(worker, [first], micros=30_000)) == {worker: [second]}
    assert not grown(talk, worker)
    # And gets nothing more once that one is ready
    assert not runs(talk.gets_ready(successor))
    talk.finishes(worker, [second], micros=30_000)
    assert told(talk.heard, m.Exit) == [worker]
    assert runs(talk.heard) == {successor: [third]}
    # And nobody is told
    assert not notes(talk.heard)
    talk.dies(worker, exitcode=0)
    assert not started(talk.heard)
    assert list(ends(talk.finishes(successor, [third]))) == [third]


def test_what_it_holds_and_has_not_started_runs_in_others() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True, max_rss=LIMIT)
    (worker,) = talk.starts_workers(group)
    (first,) = talk.submits(group, 1)
    talk.finishes(worker, [first], micros=10)
    tasks = talk.submits(group, 20)
    held = runs(talk.heard)[worker]
    assert len(held) > 2
    (successor,) = grown(talk, worker)
    talk.gets_ready(successor)
    assert sent(talk.heard, m.Recall, worker) == [m.Recall(len(held))]
    talk.says(worker, m.Returned(held[1:], ()))
    talk.finishes(worker, held[:1], micros=10)
    assert told(talk.heard, m.Exit) == [worker]
    given = runs(talk.heard)[successor]
    assert given == tasks[1:][: len(given)]


@pytest.mark.parametrize(("limit", "rss"), [(LIMIT, LIMIT), (0, 10**12)])
def test_one_that_is_not_too_large_stays(limit: int, rss: int) -> None:
    talk = Dialogue()
    (worker,) = talk.starts_workers(talk.opens(1, private=True, max_rss=limit))

    assert talk.says(worker, m.Memory(rss)) == []


def test_an_idle_shared_worker_just_goes() -> None:
    talk = Dialogue()
    group = talk.opens(1, max_rss=LIMIT)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [task])
    assert not grown(talk, worker)
    assert told(talk.heard, m.Exit) == [worker]
    talk.dies(worker, exitcode=0)
    talk.submits(group)
    assert len(started(talk.heard)) == 1


def test_an_idle_worker_of_a_pool_is_replaced_first() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True, max_rss=LIMIT)
    (worker,) = talk.starts_workers(group)
    (successor,) = grown(talk, worker)
    assert not told(talk.heard, m.Exit)
    talk.gets_ready(successor)
    assert told(talk.heard, m.Exit) == [worker]


def test_one_whose_successor_does_not_start_goes_on_and_is_tried_again() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True, max_rss=LIMIT)
    (worker,) = talk.starts_workers(group)
    (successor,) = grown(talk, worker)
    talk.fails_to_start(successor)
    (task,) = talk.submits(group)
    assert runs(talk.heard) == {worker: [task]}
    (successor,) = grown(talk, worker)
    talk.gets_ready(successor)
    talk.finishes(worker, [task])
    assert told(talk.heard, m.Exit) == [worker]


def test_a_waiting_worker_finishes_its_task_first() -> None:
    talk = Dialogue()
    group = talk.opens(1, max_rss=LIMIT)
    (parent,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    nested = talk.opens(1, peer=worker, parent=group, max_rss=LIMIT)
    (child,) = talk.submits(nested, peer=worker)
    coming = started(talk.heard)
    talk.says(worker, m.Block([child]))
    talk.finishes(worker, [child])
    for extra in coming:
        talk.gets_ready(extra)
    (successor,) = grown(talk, worker)
    talk.gets_ready(successor)
    assert not told(talk.heard, m.Exit)
    talk.says(worker, m.Unblock())
    talk.finishes(worker, [parent])
    assert told(talk.heard, m.Exit) == [worker]


def test_a_successor_starts_with_the_last_task_of_a_recycled_worker() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True, max_tasks=1)
    first, second = talk.submits(group, 2)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    (successor,) = started(talk.heard)
    assert not runs(talk.gets_ready(successor))  # one at a time
    assert runs(talk.finishes(worker, [first])) == {successor: [second]}
    assert not started(talk.heard)  # nothing is left to do
