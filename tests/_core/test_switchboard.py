"""The head's decisions: who is let in, where workers go, who hears what; and who may not say what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _core.heads import A1, A2, D1, D2, OWN, Head, launch, opened, said
from scalepool._wire import cluster as c
from scalepool._wire.handshake import decode_introduction, encode_introduction
from scalepool.errors import ProtocolError


@pytest.fixture
def head() -> Head:
    head = Head()
    for link in (A1, A2, D1, D2):
        head.hello(link)
    assert head.say(A1, c.Offer(2, 100, b"one")) == [(A1, c.Joined(1))]
    return head


def test_a_driver_hears_of_hosts_that_come_and_go(head: Head) -> None:
    opened(head, D1)
    (joined, (to, nodes)) = head.say(A2, c.Offer(3, 200, b"two"))
    assert joined == (A2, c.Joined(3))
    assert to == D1
    assert (nodes.slots, nodes.memory, nodes.hosts) == ([2, 3], [100, 200], [b"one", b"two"])
    ((to, nodes),) = head.lose(A1)  # nothing of that driver was there
    assert (to, nodes.hosts) == (D1, [b"two"])


def test_workers_go_where_most_room_is(head: Head) -> None:
    session = opened(head, D1)
    head.say(A2, c.Offer(4, 200, b"two"))
    places = [launch(head, D1, session, worker) for worker in range(1, 7)]
    assert sorted(places.count(node) for node in set(places)) == [2, 4]
    first = A1 if places.count(places[0]) == 2 else A2
    head.say(first, said(session, places[0], c.Ended(session, 1, 0, (), (), 0, (), b"")))
    assert launch(head, D1, session, 7) == places[0]
    # An answer that was lost is given again.
    assert launch(head, D1, session, 7) == places[0]
    assert sum(node["workers"] for node in head.board.report()["nodes"]) == 6


def test_what_a_session_and_its_part_on_a_host_say_goes_through_unread(head: Head) -> None:
    session = opened(head, D1)
    node = launch(head, D1, session, 1)
    for message in (
        c.Said(session, node, 1, 0, b"\xffat all"), c.Said(session, node, 9, 3, c.encode(c.Launched(session, 1, 99))),
        c.Heard(session, node, 3), c.Resume(session, node, 3),
    ):  # fmt: skip
        assert head.say(D1, message) == [(A1, message)]
        assert head.say(A1, message) == [(D1, message)]


def test_code_is_asked_for_by_hosts_and_sent_by_the_program_of_the_session_alone(head: Head) -> None:
    session, other = opened(head, D1), opened(head, D2)
    head.say(A2, c.Offer(1, 1, b"two"))
    node = launch(head, D1, session, 1)
    seek, sought = c.Seek(session, node, 7, b"\x00which"), c.Sought(session, node, 7, b"\x00that")
    asked, answered = said(session, node, seek), said(session, node, sought)
    assert head.say(A1, asked) == [(D1, asked)]
    assert head.say(D1, answered) == [(A1, answered)]
    assert head.say(A2, asked) == []
    assert head.say(A1, said(other, node, seek)) == []
    for link, message in ((D2, answered), (D1, sought), (A1, seek)):
        with pytest.raises(ProtocolError):
            head.say(link, message)


def test_a_lost_host_is_told_to_those_who_had_workers_there(head: Head) -> None:
    first, second = opened(head, D1), opened(head, D2)
    assert first != second
    launch(head, D1, first, 1)
    told = head.lose(A1)
    assert [(to, type(message)) for to, message in told] == [(D1, c.NodeLost), (D1, c.Nodes), (D2, c.Nodes)]
    (_, nodes), (to, refused) = head.say(D1, c.Launch(first, 2, b""))
    assert to == D1
    assert b"no host" in refused.reason
    assert refused.moot == 1, "the hub is to wait for one, not to count a failure"
    assert nodes == c.Nodes((), (), (), ())
    assert head.lose(A1) == []


def test_a_lost_driver_frees_what_was_its_own_when_it_does_not_come_back(head: Head) -> None:
    session = opened(head, D1)
    node = launch(head, D1, session, 1)
    assert head.lose(D1) == []
    assert head.say(A1, said(session, node, c.Launched(session, 1, 5))) == []
    assert head.tick(0.9) == []
    assert head.tick(1.1) == [(A1, c.End(session))]
    assert head.board.report()["nodes"][0]["workers"] == 0
    assert head.board.report()["drivers"] == []
    assert head.say(A1, said(session, node, c.Ended(session, 1, 0, (), (), 0, (), b""))) == []


def test_whoever_does_not_fit_hears_what_the_head_is_and_no_more() -> None:
    head = Head()
    ((_, answer),) = head.board.receive(D1, "driver", encode_introduction(OWN._replace(python="3.8")))
    assert decode_introduction(answer) == OWN
    with pytest.raises(ProtocolError):
        head.say(D1, c.Open(b"", b""))
    # Who says something without a word on what it is, is asked for that.
    assert head.say(D2, c.Ask()) == [(D2, c.Stranger())]
    with pytest.raises(ProtocolError):
        head.board.receive(D2, "driver", b"\xff")


def test_nobody_does_anothers_part_or_reaches_into_anothers_session(head: Head) -> None:
    session, other = opened(head, D1), opened(head, D2)
    node = launch(head, D1, session, 1)
    kill = said(session, node, c.Kill(session, 1, 1))
    for link, message in [
        (D2, kill), (D2, c.End(session)), (D2, c.Drop(session, node)), (D2, c.Open(b"", b"")),
        (D2, c.Launch(session, 2, b"")), (D1, c.Offer(1, 1, b"")), (D1, c.Again(1, (), ())),
        (D1, c.Kill(session, 1, 1)), (A1, c.Open(b"", b"")), (A1, c.Down()),
        (A1, c.Launch(session, 2, b"")), (A1, c.Offer(1, 1, b"")),
        (A1, c.Again(1, (), ())), (A2, c.Offer(0, 1, b"")), (D2, c.Reopen(session, b"", b"token", (), (), ())),
        (A1, c.Renew(session, node)),
    ]:  # fmt: skip
        with pytest.raises(ProtocolError):
            head.say(link, message)
    # A host that has nothing to do with a session is not heard on it.
    head.say(A2, c.Offer(1, 1, b"two"))
    ended = c.Ended(session, 1, 0, (), (), 0, (), b"")
    for number in (node, node + 1, node + 3):
        assert head.say(A2, said(session, number, ended)) == []
    assert head.say(A1, said(other, node, ended)) == []
    assert head.board.report()["nodes"][0]["workers"] == 1


def test_status_and_down(head: Head) -> None:
    opened(head, D2)
    ((_, report),) = head.say(D1, c.Ask())
    assert b'"host": "one"' in report.text
    assert not head.board.down
    assert head.say(D1, c.Down()) == [(A1, c.Down()), (D2, c.Down())]
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
