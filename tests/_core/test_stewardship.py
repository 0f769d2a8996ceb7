"""The steward at the head: when it is started, who may be it, and what others see of it."""

from __future__ import annotations

import json

import pytest

from _core.heads import A1, A2, D1, D2, OWN, Head, launch, opened, said
from scalepool._core.stewardship import Stewardship
from scalepool._core.switchboard import Switchboard
from scalepool._wire import cluster as c
from scalepool._wire.stewards import GATE, STEWARD
from scalepool.errors import ProtocolError

WORD = b"word"
STEWARDS = c.Offer(0, 0, b"steward", WORD)


class StewardedHead(Head):
    """A head that can start a steward, with one host and two drivers."""

    def __init__(self) -> None:
        super().__init__()
        self.stewardship = Stewardship(WORD)
        self.board = Switchboard(OWN, 0, 0.0, self.stewardship)
        self.board.tick(0.0)
        for link in (A1, A2, D1, D2):
            self.hello(link)
        self.say(A1, c.Offer(2, 100, b"one"))

    def wants(self, link: bytes, session: int, worker: int) -> list[tuple[bytes, object]]:
        return self.say(link, c.Launch(session, worker, GATE, (), STEWARD))


@pytest.fixture
def head() -> StewardedHead:
    return StewardedHead()


def test_it_is_started_once_it_is_wanted_and_orders_wait_for_it(head: StewardedHead) -> None:
    one, two = opened(head, D1), opened(head, D2)
    assert not head.stewardship.is_wanted
    assert head.wants(D1, one, 1) == []
    assert head.stewardship.is_wanted
    head.stewardship.is_wanted = False
    assert head.wants(D2, two, 1) == []
    assert not head.stewardship.is_wanted  # one is on its way
    assert not head.tick(5.0)
    sends = head.say(A2, STEWARDS)
    node = sends[0][1].node
    placed = [(to, message) for to, message in sends if type(message) is c.Placed]
    assert placed == [(D1, c.Placed(one, 1, node)), (D2, c.Placed(two, 1, node))]
    begun = {message.session for to, message in sends if type(message) is c.Begin and to == A2}
    assert begun == {one, two}
    message = c.Said(one, node, 1, 0, b"x")
    assert head.say(A2, message) == [(D1, message)]
    assert head.say(D1, message) == [(A2, message)]


def test_nobody_takes_it_for_a_host(head: StewardedHead) -> None:
    session = opened(head, D1)
    sends = head.say(A2, STEWARDS)
    number = sends[0][1].node
    (nodes,) = [message for to, message in sends if to == D1]
    assert nodes.hosts == [b"one"]
    assert {launch(head, D1, session, worker) for worker in range(1, 6)} == {1}
    assert [node["node"] for node in head.board.report()["nodes"]] == [1]
    ((_, answer),) = head.say(D1, c.Drain(number, b"", 0))
    assert answer.node == 0
    assert head.tick(3.0) == []  # its shares and moves take no notice of it, either


@pytest.mark.parametrize("word", [b"", b"another", b"{}"])
def test_who_does_not_know_the_word_is_not_it(head: StewardedHead, word: bytes) -> None:
    with pytest.raises(ProtocolError, match="no slots"):
        head.say(A2, c.Offer(0, 0, b"steward", word))
    assert head.board.report()["detached"] == []


def test_there_is_one(head: StewardedHead) -> None:
    head.say(A2, STEWARDS)
    head.hello(b"a3")
    with pytest.raises(ProtocolError, match="second steward"):
        head.say(b"a3", STEWARDS)


def test_a_head_without_a_word_has_none() -> None:
    head = Head()
    for link in (A1, A2, D1):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    session = opened(head, D1)
    ((to, refused),) = head.say(D1, c.Launch(session, 1, GATE, (), STEWARD))
    assert (to, type(refused), refused.moot) == (D1, c.Refused, 0)
    with pytest.raises(ProtocolError):
        head.say(A2, c.Offer(0, 0, b"steward", b""))


def test_one_that_does_not_come_is_given_up_and_tried_again_for_the_next(head: StewardedHead) -> None:
    session = opened(head, D1)
    head.wants(D1, session, 1)
    assert head.tick(29.0) == []
    ((to, refused),) = head.tick(31.0)
    assert to == D1
    assert b"within 30 seconds" in refused.reason
    head.stewardship.is_wanted = False
    assert head.wants(D1, session, 2) == []
    assert head.stewardship.is_wanted
    head.stewardship.trouble = "no python"
    ((to, refused),) = head.tick(32.0)
    assert b"no python" in refused.reason


def test_what_it_owns_is_told_by_it_alone(head: StewardedHead) -> None:
    session = opened(head, D1)
    own = opened(head, D2)
    head.say(A2, STEWARDS)
    actors = [{"actor": 1, "name": "a"}]
    assert head.say(A2, c.Owned(own, json.dumps(actors).encode())) == []
    report = head.board.report()
    assert report["detached"] == actors
    assert [driver["session"] for driver in report["drivers"]] == [session]
    for link in (A1, D1):
        with pytest.raises(ProtocolError):
            head.say(link, c.Owned(own, b"[]"))
    for nonsense in (b"{", b"{}"):
        with pytest.raises(ProtocolError, match="no sense"):
            head.say(A2, c.Owned(own, nonsense))
    head.lose(A2)
    assert head.board.report()["detached"] == []


def test_programs_hear_when_it_is_lost_and_its_gates_go_with_their_program(head: StewardedHead) -> None:
    session = opened(head, D1)
    node = head.say(A2, STEWARDS)[0][1].node
    head.wants(D1, session, 1)
    head.say(A2, said(session, node, c.Ended(session, 1, 0, (), (), 0, (), b"")))
    head.wants(D1, session, 2)
    assert head.lose(A2)[0] == (D1, c.NodeLost(node, b"gone"))
    head.hello(A2)
    node = head.say(A2, STEWARDS)[0][1].node
    head.wants(D1, session, 3)
    assert (A2, c.End(session)) in head.say(D1, c.End(session))
