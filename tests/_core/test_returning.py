"""Who comes back to a head, or to the next one, is taken up where it was; who does not is told to those concerned."""

from __future__ import annotations

from typing import Any

import pytest

from _core.heads import A1, A2, D1, D2, Head, launch, opened, said
from scalepool._core.returning import RETURN_S
from scalepool._wire import cluster as c
from scalepool.errors import ProtocolError

TOKEN, SETTINGS = b"token", b"[]"
NEXT = 1 << 20
"""Where the numbers of the second head begin."""
A1_AGAIN, D1_AGAIN = b"a1 again", b"d1 again"


def kinds(sends: list[tuple[bytes, Any]]) -> list[tuple[bytes, str]]:
    return [(link, type(message).__name__) for link, message in sends]


def begun() -> tuple[Head, int, int]:
    """Return a head, and a session with a worker on a node."""
    head = Head()
    for link in (A1, D1):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    session = opened(head, D1)
    return head, session, launch(head, D1, session, 1)


def agent_returns(head: Head, link: bytes, node: int, sessions: dict[int, bytes]) -> list[tuple[bytes, Any]]:
    head.hello(link)
    assert head.say(link, c.Again(node, list(sessions), list(sessions.values()))) == []
    return head.say(link, c.Offer(2, 100, b"one"))


def driver_returns(
    head: Head, link: bytes, session: int, homes: dict[int, int], nodes: tuple[int, ...] = (), token: bytes = TOKEN
) -> list[tuple[bytes, Any]]:
    head.hello(link)
    pairs = [number for pair in homes.items() for number in pair]
    orders = [c.encode(c.Launch(session, worker, b"")) for worker in homes]
    return head.say(link, c.Reopen(session, SETTINGS, token, [*nodes, *homes.values()], pairs, orders))


@pytest.mark.parametrize("agent_first", [True, False])
def test_a_new_head_brings_those_together_who_were(agent_first: bool) -> None:
    _, session, node = begun()
    head = Head(NEXT)
    if agent_first:
        assert agent_returns(head, A1, node, {session: TOKEN}) == [(A1, c.Joined(node))]
        told = driver_returns(head, D1, session, {1: node})
        assert kinds(told) == [(D1, "Opened"), (A1, "Renew"), (D1, "Renew"), (D1, "Nodes")]
    else:
        assert kinds(driver_returns(head, D1, session, {1: node})) == [(D1, "Opened"), (D1, "Nodes")]
        told = agent_returns(head, A1, node, {session: TOKEN})
        assert kinds(told) == [(A1, "Joined"), (A1, "Renew"), (D1, "Renew"), (D1, "Nodes")]
    assert (D1, c.Renew(session, node)) in told
    report = head.board.report()
    assert [host["workers"] for host in report["nodes"]] == [1]
    assert [driver["workers"] for driver in report["drivers"]] == [1]
    for message in (c.Resume(session, node, 5), said(session, node, c.Launched(session, 1, 7), 6)):
        assert head.say(D1, message) == [(A1, message)]
        assert head.say(A1, message) == [(D1, message)]
    head.say(A1, said(session, node, c.Ended(session, 1, 0, (), (), 0, (), b""), 7))
    assert head.board.report()["nodes"][0]["workers"] == 0


def test_numbers_of_a_new_head_are_its_own() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    head.hello(D2)
    head.hello(A2)
    ((_, joined),) = head.say(A2, c.Offer(1, 1, b"two"))
    other = opened(head, D2)
    assert len({session, node, joined.node, other}) == 4
    assert min(joined.node, other) > NEXT


def test_a_host_that_never_had_the_session_begins_it() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    agent_returns(head, A1, node, {})  # what it was told was lost with the first head
    told = driver_returns(head, D1, session, {1: node})
    assert (A1, c.Begin(session, node, SETTINGS, TOKEN)) in told
    assert kinds(told)[1:4] == [(A1, "Begin"), (A1, "Renew"), (D1, "Renew")]


def test_what_a_host_has_of_a_session_that_has_given_it_up_ends() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    agent_returns(head, A1, node, {session: TOKEN})
    assert (A1, c.End(session)) in driver_returns(head, D1, session, {})
    head = Head(NEXT)
    driver_returns(head, D1, session, {})
    assert (A1, c.End(session)) in agent_returns(head, A1, node, {session: TOKEN})


def test_another_token_is_another_session() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    driver_returns(head, D1, session, {1: node})
    told = agent_returns(head, A1, node, {session: b"forged"})
    assert (A1, c.End(session)) in told
    head.hello(D2)
    with pytest.raises(ProtocolError, match="not its own"):
        head.say(D2, c.Reopen(session, SETTINGS, b"forged", (), (), ()))


def test_a_host_that_does_not_come_back_is_told_after_a_while() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    head.tick(100.0)
    driver_returns(head, D1, session, {1: node})
    # Who orders a worker meanwhile waits, too.
    assert head.say(D1, c.Launch(session, 2, b"")) == []
    assert head.tick(100.0 + RETURN_S - 0.1) == []
    assert kinds(head.tick(100.0 + RETURN_S)) == [(D1, "NodeLost"), (D1, "Nodes"), (D1, "Refused")]
    # It is too late now, and a new host.
    told = agent_returns(head, A1, node, {session: TOKEN})
    assert told[0][1].node > NEXT
    assert kinds(told) == [(A1, "Joined"), (D1, "Nodes")]


def test_a_new_heads_first_sessions_wait_for_its_first_hosts() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    driver_returns(head, D1, session, {})
    assert head.say(D1, c.Launch(session, 2, b"")) == []
    assert head.tick(RETURN_S / 2) == []
    told = agent_returns(head, A1, node, {})
    assert kinds(told)[-2:] == [(A1, "Begin"), (D1, "Placed")]


def test_orders_that_wait_go_to_the_host_that_comes_back() -> None:
    _, session, node = begun()
    head = Head(NEXT)
    driver_returns(head, D1, session, {1: node})
    assert head.say(D1, c.Launch(session, 2, b"")) == []
    told = agent_returns(head, A1, node, {session: TOKEN})
    assert told[-1] == (D1, c.Placed(session, 2, node))
    assert (A1, "Begin") not in kinds(told)


def test_a_host_that_is_lost_alone_is_lost_and_comes_back_as_another() -> None:
    head, session, node = begun()
    assert kinds(head.lose(A1)) == [(D1, "NodeLost"), (D1, "Nodes")]
    told = agent_returns(head, A1_AGAIN, node, {session: TOKEN})
    assert told[0][1].node not in (node, session)
    assert kinds(told) == [(A1_AGAIN, "Joined"), (D1, "Nodes")]


def test_with_a_grace_it_is_taken_up_where_it_was() -> None:
    head = Head(host_grace_s=3.0)
    for link in (A1, D1):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    session = opened(head, D1)
    node = launch(head, D1, session, 1)
    assert kinds(head.lose(A1)) == [(D1, "Nodes")]
    assert head.board.report()["nodes"][0]["away"]
    assert head.say(D1, said(session, node, c.Kill(session, 1, 1))) == []  # it is said again later
    assert head.tick(2.9) == []
    told = agent_returns(head, A1_AGAIN, node, {session: TOKEN})
    assert kinds(told) == [(A1_AGAIN, "Joined"), (A1_AGAIN, "Renew"), (D1, "Renew"), (D1, "Nodes")]
    assert head.board.report()["nodes"][0] == {**head.board.report()["nodes"][0], "workers": 1, "away": False}
    head.lose(A1_AGAIN)
    assert kinds(head.tick(6.0)) == [(D1, "NodeLost")]


def test_a_host_that_is_back_before_its_loss_was_noticed_goes_on() -> None:
    head, session, node = begun()
    told = agent_returns(head, A1_AGAIN, node, {session: TOKEN})
    assert kinds(told) == [(A1_AGAIN, "Joined"), (A1_AGAIN, "Renew"), (D1, "Renew"), (D1, "Nodes")]
    assert head.lose(A1) == []
    assert [one["workers"] for one in head.board.report()["nodes"]] == [1]


def test_a_driver_comes_back_in_time_or_hears_that_it_is_over() -> None:
    head, session, node = begun()
    head.lose(D1)
    assert head.board.report()["drivers"][0]["away"]
    told = driver_returns(head, D1_AGAIN, session, {1: node})
    assert kinds(told) == [(D1_AGAIN, "Opened"), (A1, "Renew"), (D1_AGAIN, "Renew"), (D1_AGAIN, "Nodes")]
    assert head.tick(5.0) == []
    head.lose(D1_AGAIN)
    assert head.tick(6.1) == [(A1, c.End(session))]
    assert driver_returns(head, D1, session, {1: node}) == [(D1, c.End(session))]


def test_nobody_is_lost_while_all_are_cut_off() -> None:
    head, session, node = begun()
    head.lose(D1)
    assert head.lose(A1) == []  # nobody could be told
    driver_returns(head, D1_AGAIN, session, {1: node})
    told = agent_returns(head, A1_AGAIN, node, {session: TOKEN})
    assert kinds(told) == [(A1_AGAIN, "Joined"), (A1_AGAIN, "Renew"), (D1_AGAIN, "Renew"), (D1_AGAIN, "Nodes")]


def test_a_driver_that_fell_silent_is_waited_for_longer() -> None:
    head, session, node = begun()
    head.lose(D1, silent=True)
    assert head.tick(29.0) == []
    assert (A1, c.Renew(session, node)) in driver_returns(head, D1_AGAIN, session, {1: node})
    head.lose(D1_AGAIN, silent=True)
    assert head.tick(60.0) == [(A1, c.End(session))]


@pytest.mark.parametrize("agent_first", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 20.0])
def test_the_loss_of_a_host_that_no_driver_heard_of_is_none(agent_first: bool, after_s: float) -> None:
    """All links are cut: that of the host is noticed first, and what is said to the driver is lost."""
    head, session, node = begun()
    assert (D1, "NodeLost") in kinds(head.lose(A1, silent=True))
    head.lose(D1, silent=True)
    head.tick(after_s)
    told = []
    for agent in (agent_first, not agent_first):
        if agent:
            told += agent_returns(head, A1_AGAIN, node, {session: TOKEN})
        else:
            told += driver_returns(head, D1_AGAIN, session, {1: node})
    assert (A1_AGAIN, c.Joined(node)) in told
    assert [link for link, message in told if type(message) is c.Renew] == [A1_AGAIN, D1_AGAIN]
    assert not any(type(message) in (c.End, c.NodeLost, c.Begin) for _, message in told)
    assert [one["workers"] for one in head.board.report()["nodes"]] == [1]


def test_one_that_it_heard_of_ends_what_the_host_had() -> None:
    head, session, node = begun()
    head.lose(A1, silent=True)
    head.lose(D1, silent=True)
    assert agent_returns(head, A1_AGAIN, node, {session: TOKEN}) == [(A1_AGAIN, c.Joined(node))]
    assert (A1_AGAIN, c.End(session)) in driver_returns(head, D1_AGAIN, session, {})


def test_a_head_that_was_stopped_takes_nobody_for_lost_at_once() -> None:
    head, session, node = begun()
    head.tick(10.0)
    head.stop_until(30.0)
    assert kinds(head.lose(A1)) == [(D1, "Nodes")]
    head.lose(D1)
    assert head.tick(33.0) == []
    driver_returns(head, D1_AGAIN, session, {1: node})
    assert (A1_AGAIN, c.Renew(session, node)) in agent_returns(head, A1_AGAIN, node, {session: TOKEN})


def test_a_driver_that_gives_up_a_host_has_nothing_there_any_more() -> None:
    head, session, node = begun()
    assert head.say(D1, c.Drop(session, node)) == [(A1, c.End(session))]
    assert head.board.report()["nodes"][0]["workers"] == 0
    assert head.say(D1, c.Drop(session, node)) == []
    assert kinds(head.say(D1, c.Launch(session, 2, b""))) == [(A1, "Begin"), (D1, "Placed")]


def test_a_driver_that_makes_no_sense_is_refused() -> None:
    head, session, _ = begun()
    head.hello(D2)
    for workers, orders in (((1,), ()), ((1, 2), ()), ((1, 2, 3), (b"",))):
        with pytest.raises(ProtocolError):
            head.say(D2, c.Reopen(session, SETTINGS, TOKEN, (), workers, orders))
    with pytest.raises(ProtocolError):
        head.say(D1, c.Reopen(session, SETTINGS, TOKEN, (), (), ()))  # it is there
