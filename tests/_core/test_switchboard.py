"""The head's decisions: who is let in, where workers go, who hears what; and who may not say what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._core.switchboard import Switchboard
from scalepool._wire import cluster as c
from scalepool._wire.handshake import Introduction, decode_introduction, encode_introduction
from scalepool.errors import ProtocolError

OWN = Introduction(1, "3.11", "3.1", "head", "c")
D1, D2, A1, A2 = b"d1", b"d2", b"a1", b"a2"


class Head:
    """A switchboard, and what it has sent to whom."""

    def __init__(self) -> None:
        self.board = Switchboard(OWN)

    def hello(self, link: bytes) -> None:
        data = encode_introduction(OWN._replace(host=link.decode()))
        ((to, answer),) = self.board.receive(link, self.role(link), data)
        assert to == link
        assert decode_introduction(answer) == OWN

    def say(self, link: bytes, message: Any) -> list[tuple[bytes, Any]]:
        return self.read(self.board.receive(link, self.role(link), c.encode(message)))

    def lose(self, link: bytes) -> list[tuple[bytes, Any]]:
        return self.read(self.board.lose(link, "gone"))

    @staticmethod
    def role(link: bytes) -> str:
        return "driver" if link[:1] == b"d" else "agent"

    @staticmethod
    def read(sends: list[tuple[bytes, bytes]]) -> list[tuple[bytes, Any]]:
        return [(link, c.decode(data)) for link, data in sends]


@pytest.fixture
def head() -> Head:
    head = Head()
    for link in (A1, A2, D1, D2):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    return head


def opened(head: Head, link: bytes) -> int:
    ((to, answer), (_, nodes)) = head.say(link, c.Open(b"[]", b"token"))
    assert to == link
    assert type(nodes) is c.Nodes
    number: int = answer.session
    return number


def test_a_driver_hears_of_hosts_that_come_and_go(head: Head) -> None:
    opened(head, D1)
    ((to, nodes),) = head.say(A2, c.Offer(3, 200, b"two"))
    assert to == D1
    assert (nodes.slots, nodes.memory, nodes.hosts) == ([2, 3], [100, 200], [b"one", b"two"])
    ((to, nodes),) = head.lose(A1)  # nothing of that driver was there
    assert (to, nodes.hosts) == (D1, [b"two"])


def test_workers_go_where_most_room_is(head: Head) -> None:
    session = opened(head, D1)
    head.say(A2, c.Offer(4, 200, b"two"))
    places = []
    for worker in range(1, 7):
        sends = head.say(D1, c.Launch(session, worker, b"spec"))
        begun = [type(message) for _, message in sends]
        assert begun[0] is c.Placed
        assert begun[-1] is c.Launch
        places.append(sends[-1][0])
        assert (c.Begin in begun) is (places.count(places[-1]) == 1)
    assert places.count(A1) == 2
    assert places.count(A2) == 4
    head.say(places[0], c.Ended(session, 1, 0, (), (), 0, (), b""))
    assert head.say(D1, c.Launch(session, 7, b"spec"))[-1][0] == places[0]


def test_what_workers_and_their_hub_say_goes_through_unread(head: Head) -> None:
    session = opened(head, D1)
    head.say(D1, c.Launch(session, 1, b""))
    there, back = c.Carry(session, 1, b"\x00anything"), c.Carry(session, 1, b"\xffat all")
    assert head.say(D1, there) == [(A1, there)]
    assert head.say(A1, back) == [(D1, back)]
    for report in (c.Launched(session, 1, 99), c.Looked(session, 1, (5,), (0,), 0, 0, ())):
        ((to, heard),) = head.say(A1, report)
        assert (to, tuple(map(_plain, heard))) == (D1, tuple(map(_plain, report)))
    for order in (c.Kill(session, 1, 1), c.Look(session, 1, 0), c.Withdraw(session, 1, 3)):
        assert head.say(D1, order) == [(A1, order)]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_objects_are_asked_for_and_sent_between_a_session_and_its_nodes(head: Head) -> None:
    session = opened(head, D1)
    head.say(D1, c.Launch(session, 1, b""))
    fetch, chunk = c.Fetch(session, 1, 7, 0, 10), c.Chunk(session, 1, 7, 0, b"x" * 10)
    assert head.say(D1, fetch) == [(A1, fetch)]
    assert head.say(A1, chunk) == [(D1, chunk)]
    assert head.say(A1, fetch) == [(D1, fetch)]
    assert head.say(D1, chunk) == [(A1, chunk)]
    # One that has left, or never had anything of it, has no objects: who waits for them hears so.
    assert head.say(D1, c.Fetch(session, 9, 7, 0, 10)) == [(D1, c.Chunk(session, 9, 7, 0, b""))]


def test_code_is_asked_for_by_hosts_and_sent_by_the_program_of_the_session_alone(head: Head) -> None:
    session, other = opened(head, D1), opened(head, D2)
    head.say(A2, c.Offer(1, 1, b"two"))
    (_, _, (node_link, _)) = head.say(D1, c.Launch(session, 1, b""))
    outsider = A2 if node_link == A1 else A1
    node = 1 if node_link == A1 else 4
    seek, sought = c.Seek(session, node, 7, b"m"), c.Sought(session, node, 7, b"code")
    assert head.say(node_link, seek) == [(D1, seek)]
    assert head.say(D1, sought) == [(node_link, sought)]
    for message in (
        c.Sought(session, node, 7, b"forged"),
        c.Seek(session, node, 7, b"m"),
        seek._replace(session=other),
    ):
        with pytest.raises(ProtocolError):
            head.say(D2, message)
    with pytest.raises(ProtocolError):
        head.say(node_link, sought)
    assert head.say(outsider, seek) == []
    assert head.say(node_link, seek._replace(node=99)) == []
    assert head.say(D1, sought._replace(node=99)) == []


def test_a_lost_host_is_told_to_those_who_had_workers_there(head: Head) -> None:
    first, second = opened(head, D1), opened(head, D2)
    assert first != second
    head.say(D1, c.Launch(first, 1, b""))
    told = head.lose(A1)
    assert [(to, type(message)) for to, message in told] == [(D1, c.NodeLost), (D1, c.Nodes), (D2, c.Nodes)]
    ((to, refused),) = head.say(D1, c.Launch(first, 2, b""))
    assert to == D1
    assert b"no hosts" in refused.reason
    assert head.lose(A1) == []


def test_a_lost_driver_frees_what_was_its_own(head: Head) -> None:
    session = opened(head, D1)
    head.say(D1, c.Launch(session, 1, b""))
    assert head.lose(D1) == [(A1, c.End(session))]
    assert head.board.report()["nodes"][0]["workers"] == 0
    assert head.board.report()["drivers"] == []
    assert head.say(A1, c.Carry(session, 1, b"late")) == []
    assert head.say(A1, c.Ended(session, 1, 0, (), (), 0, (), b"")) == []


def test_whoever_does_not_fit_hears_what_the_head_is_and_no_more() -> None:
    head = Head()
    ((_, answer),) = head.board.receive(D1, "driver", encode_introduction(OWN._replace(python="3.8")))
    assert decode_introduction(answer) == OWN
    with pytest.raises(ProtocolError):
        head.say(D1, c.Open(b"", b""))
    with pytest.raises(ProtocolError):
        head.say(D2, c.Ask())  # without a word on what it is


def test_nobody_does_anothers_part_or_reaches_into_anothers_session(head: Head) -> None:
    session, other = opened(head, D1), opened(head, D2)
    head.say(D1, c.Launch(session, 1, b""))
    for link, message in [
        (D2, c.Kill(session, 1, 1)), (D2, c.Carry(session, 1, b"")), (D2, c.End(session)), (D2, c.Open(b"", b"")),
        (D2, c.Chunk(session, 1, 7, 0, b"")), (D1, c.Offer(1, 1, b"")), (D1, c.Launched(session, 1, 5)),
        (A1, c.Open(b"", b"")), (A1, c.Down()), (A1, c.Launch(session, 2, b"")), (A1, c.Offer(1, 1, b"")),
        (A2, c.Launched(session, 1, 5)), (A2, c.Offer(0, 1, b"")), (D1, c.Launch(session, 1, b"")),
    ]:  # fmt: skip
        with pytest.raises(ProtocolError):
            head.say(link, message)
    # A host that has nothing to do with a session is not heard on it.
    head.say(A2, c.Offer(1, 1, b"two"))
    assert head.say(A2, c.Carry(session, 1, b"forged")) == []
    assert head.say(A2, c.Ended(session, 1, 0, (), (), 0, (), b"")) == []
    assert head.say(A2, c.Fetch(session, 1, 7, 0, 1)) == []
    assert head.say(A1, c.Carry(other, 1, b"forged")) == []
    assert head.board.report()["nodes"][0]["workers"] == 1


def test_status_and_down(head: Head) -> None:
    ((_, report),) = head.say(D1, c.Ask())
    assert b'"host": "one"' in report.text
    assert not head.board.down
    assert head.say(D1, c.Down()) == [(A1, c.Down())]
    assert head.board.down


@given(st.lists(st.tuples(st.sampled_from([D1, A1, A2, b"x"]), st.binary(max_size=60)), max_size=20))
def test_noise_is_refused_and_changes_nothing(noise: list[tuple[bytes, bytes]]) -> None:
    head = Head()
    for link in (A1, D1):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    session = opened(head, D1)
    before = head.board.report()
    for link, data in noise:
        try:
            head.board.receive(link, head.role(link), data)
        except ProtocolError:
            continue
    if head.board.report() == before:  # noise may be a message that makes sense
        assert head.say(D1, c.Launch(session, 1 << 30, b""))
