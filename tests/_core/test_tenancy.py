"""How sessions share a cluster's hosts, and how hosts leave: what the head says as time goes by."""

from __future__ import annotations

from typing import Any

import pytest

from _core.heads import A1, A2, D1, D2, Head, opened
from scalepool._wire import cluster as c


@pytest.fixture
def head() -> Head:
    head = Head()
    for link in (A1, A2, D1, D2):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    head.say(A2, c.Offer(4, 100, b"two"))
    return head


def look(head: Head, now: float) -> list[tuple[bytes, Any]]:
    """What is said at a moment, but for shares of those who may have any number."""
    said = head.read(head.board.tick(now))
    return [one for one in said if type(one[1]) is not c.Share or one[1].workers]


def only(kind: type, said: list[tuple[bytes, Any]]) -> list[tuple[bytes, Any]]:
    return [(to, message) for to, message in said if type(message) is kind]


def launch(head: Head, link: bytes, session: int, *workers: int, node: int = 0) -> None:
    for worker in workers:
        assert only(c.Placed, head.say(link, c.Launch(session, worker, b"", (), node)))


def ended(head: Head, link: bytes, session: int, node: int, *workers: int) -> None:
    for worker in workers:
        said = c.encode(c.Ended(session, worker, 0, (), (), 0, (), b""))
        head.say(link, c.Said(session, node, worker, 0, said))


def test_a_host_leaves_when_nobody_has_anything_there(head: Head) -> None:
    session = opened(head, D1)
    launch(head, D1, session, 1, node=1)
    assert head.say(D2, c.Drain(1, b"", 10_000)) == [(D2, c.Drained(1, b"host 1 (one) leaves the cluster"))]
    ((to, nodes),) = look(head, 0.0)
    assert (to, list(nodes.leaving)) == (D1, [1, 0])
    assert head.say(D1, c.Launch(session, 2, b"", (), 1)) == [
        (D1, c.Refused(session, 2, b"its host has left the cluster", 1))
    ]
    assert look(head, 0.5) == []
    ended(head, A1, session, 1, 1)
    assert look(head, 1.0) == [], "the driver may still need something from there"
    assert head.say(D1, c.Drop(session, 1)) == [(A1, c.End(session))]
    assert look(head, 1.5) == [(A1, c.Leave())]
    assert look(head, 2.0) == []
    ((to, nodes),) = head.lose(A1)
    assert (to, list(nodes.nodes)) == (D1, [2])


def test_an_agent_says_that_its_own_host_is_to_leave(head: Head) -> None:
    assert head.say(A1, c.Drain(2, b"two", 1000)) == []
    assert look(head, 0.0) == [(A1, c.Leave())]


def test_when_its_time_is_up_what_is_there_ends_and_then_it_goes_anyway(head: Head) -> None:
    session = opened(head, D1)
    launch(head, D1, session, 1, node=1)
    head.say(A1, c.Drain(0, b"", 1000))
    ((to, nodes),) = look(head, 0.25)
    assert (to, list(nodes.leaving)) == (D1, [1, 0])
    assert look(head, 1.0) == []
    ((to, nodes),) = look(head, 1.5)
    assert (to, list(nodes.leaving)) == (D1, [2, 0])
    assert head.tick(6.0) == []
    assert look(head, 6.5) == [(A1, c.Leave())]


def test_whoever_names_no_host_or_several_is_told(head: Head) -> None:
    head.hello(b"a3")
    head.say(b"a3", c.Offer(1, 100, b"two"))
    ((to, answer),) = head.say(D1, c.Drain(0, b"two", 1))
    assert (to, answer.node) == (D1, 0)
    assert b"by number, of 2, 3" in answer.text
    ((_, answer),) = head.say(D1, c.Drain(9, b"", 1))
    assert answer == c.Drained(0, b"the cluster has no host with number 9")
    assert look(head, 0.0) == []


def test_programs_share_the_slots_when_together_they_want_more(head: Head) -> None:
    first, second = opened(head, D1), opened(head, D2)
    head.say(D1, c.Wants(first, 6))
    assert look(head, 0.0) == []
    head.say(D2, c.Wants(second, 100))
    assert look(head, 0.3) == [(D1, c.Share(first, 3)), (D2, c.Share(second, 3))]
    assert look(head, 0.6) == []
    head.say(D1, c.Wants(first, 1))
    assert look(head, 0.9) == [(D1, c.Share(first, 1)), (D2, c.Share(second, 5))]
    head.lose(D1)
    head.now = 0.9
    assert (D2, c.Share(second, 0)) in head.tick(4.0)


def test_a_program_is_asked_to_move_workers_once_at_a_time(head: Head) -> None:
    session = opened(head, D1)
    launch(head, D1, session, *range(1, 6), node=1)
    assert look(head, 0.0) == [(D1, c.Shift(session, 1, 2, 3))]
    assert look(head, 1.0) == []
    launch(head, D1, session, 6, 7, 8, node=2)
    ended(head, A1, session, 1, 1, 2, 3)
    assert look(head, 2.0) == [], "it has done that, and nothing is left to move"


def test_who_does_not_move_is_not_asked_again_before_something_changes(head: Head) -> None:
    session = opened(head, D1)
    launch(head, D1, session, *range(1, 6), node=1)
    assert only(c.Shift, look(head, 0.0))
    head.now = 0.0
    assert not only(c.Shift, head.tick(20.0))
    head.hello(b"a3")
    head.say(b"a3", c.Offer(9, 100, b"three"))
    assert len(only(c.Shift, head.tick(20.5))) == 1
