"""Which host a worker is put on, who may have how much, and when a host leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._core.departure import Departure, Stay
from scalepool._core.placement import EVICTED, LEAVING, Placement, Rest, fair_shares, transfer
from scalepool._wire.cluster import Offer


def two_hosts(small: int = 2, large: int = 6) -> Placement:
    placement = Placement()
    placement.join(1, b"s", Offer(small, 100, b"small"))
    placement.join(2, b"l", Offer(large, 100, b"large"))
    return placement


def test_workers_go_where_the_smallest_share_is_in_use() -> None:
    assert Placement().take() is None
    placement = two_hosts()
    small, large = placement.hosts.values()
    places = [placement.take() for _ in range(8)]
    assert (places.count(small), places.count(large)) == (2, 6)
    placement.give_back(small)
    assert placement.take() is small
    placement.lose(large)
    assert placement.take() is small
    assert small.load == 3


def test_a_worker_that_needs_its_host_gets_that_or_none() -> None:
    placement = two_hosts()
    small = placement.hosts[1]
    assert [placement.take(1) for _ in range(3)] == [small] * 3
    assert placement.take(7) is None
    placement.drain(small, 1.0)
    assert placement.take(1) is None
    assert placement.take() is placement.hosts[2]


def test_a_host_that_is_to_leave_has_its_time() -> None:
    placement = two_hosts()
    small = placement.hosts[1]
    placement.drain(small, 10.0)
    assert (small.state, placement.staying) == (LEAVING, [placement.hosts[2]])
    assert not placement.pass_time(100.0), "the clock starts with the first look at one"
    assert not placement.pass_time(109.9)
    placement.drain(small, 20.0)  # asked again, with more patience
    assert placement.pass_time(110.0)
    assert small.state == EVICTED
    assert not placement.pass_time(111.0)


def test_who_asks_again_may_shorten_its_time() -> None:
    placement = two_hosts()
    small = placement.hosts[1]
    placement.drain(small, 100.0)
    placement.pass_time(0.0)
    placement.drain(small, 5.0)
    assert not placement.pass_time(4.9)
    assert placement.pass_time(5.0)


def test_hosts_are_found_by_number_or_name() -> None:
    placement = two_hosts()
    placement.join(3, b"x", Offer(1, 1, b"large"))
    assert [host.number for host in placement.find(0, b"large")] == [2, 3]
    assert [host.number for host in placement.find(1, b"large")] == [1]
    assert placement.find(9, b"") == placement.find(0, b"none") == []


def test_what_else_a_host_offers_goes_there_and_back() -> None:
    rest = Rest(2, {"license": 15_000}, {"zone": "a"})
    assert Rest.decode(rest.encode()) == rest
    for nonsense in (b"", b"{}", b"[1]", b'["x", {}, {}]', b"[0, 5, {}]", b"\xff"):
        assert Rest.decode(nonsense) == Rest()
    assert Rest.decode(b'[-1, {"a": -5}, {}]') == Rest()


@pytest.mark.parametrize(
    ("slots", "wants", "expected"),
    [
        (8, {1: 3, 2: 5}, {1: 0, 2: 0}),  # there is room for all
        (8, {1: 100}, {1: 0}),
        (8, {1: 100, 2: 0}, {1: 0, 2: 0}),
        (8, {1: 100, 2: 100}, {1: 4, 2: 4}),
        (8, {1: 100, 2: 2}, {1: 6, 2: 2}),
        (9, {1: 100, 2: 100}, {1: 5, 2: 4}),
        (9, {1: 100, 2: 100, 3: 100, 4: 1, 5: 0}, {1: 3, 2: 3, 3: 2, 4: 1, 5: 3}),
        (2, {1: 5, 2: 5, 3: 5}, {1: 1, 2: 1, 3: 1}),  # nobody is left with nothing
    ],
)
def test_shares_are_fair(slots: int, wants: dict[int, int], expected: dict[int, int]) -> None:
    assert fair_shares(slots, wants) == expected


@given(st.integers(1, 200), st.dictionaries(st.integers(1, 50), st.integers(0, 300), min_size=2, max_size=12))
def test_shares_are_max_min_fair_whatever_is_wanted(slots: int, wants: dict[int, int]) -> None:
    shares = fair_shares(slots, wants)
    asking = {session: want for session, want in wants.items() if want}
    if not any(shares.values()):
        assert len(asking) < 2 or sum(wants.values()) <= slots
        return
    given_out = [shares[session] for session in asking]
    assert min(given_out) >= 1
    assert all(shares[session] <= want for session, want in asking.items())
    assert sum(given_out) == max(slots, len(asking)), "nothing that somebody wants is left over"
    limited = [shares[session] for session, want in asking.items() if shares[session] < want]
    assert not limited or max(given_out) - min(limited) <= 1, "nobody has more while another one lacks it"


def test_workers_move_from_a_crowded_host_to_one_with_room() -> None:
    placement = two_hosts(2, 4)
    small, large = placement.hosts.values()
    small.load = 5
    found = transfer(placement.staying, {7: {1: 1}, 8: {1: 4}})
    assert found == (8, small, large, 3)
    small.load, large.load = 2, 3
    assert transfer(placement.staying, {8: {1: 2, 2: 3}}) is None
    small.load, large.load = 4, 4
    assert transfer(placement.staying, {8: {1: 4, 2: 4}}) is None, "to move would only crowd the other one"
    small.load, large.load = 5, 0
    assert transfer(placement.staying, {8: {2: 1}}) is None, "nobody there may be asked"


@given(st.lists(st.tuples(st.integers(1, 16), st.integers(0, 40)), min_size=1, max_size=8))
def test_moving_comes_to_an_end(hosts: list[tuple[int, int]]) -> None:
    placement = Placement()
    for number, (slots, load) in enumerate(hosts, 1):
        placement.join(number, b"", Offer(slots, 1, b"")).load = load
    total = sum(load for _, load in hosts)
    for _ in range(total + 1):
        counts = {1: {host.number: host.load for host in placement.staying}}
        found = transfer(placement.staying, counts)
        if found is None:
            break
        assert found.workers > 0
        found.source.load -= found.workers
        found.target.load += found.workers
        assert found.source.load >= found.source.slots
        assert found.target.load <= found.target.slots
    else:
        pytest.fail("workers are moved for ever")


def test_a_host_leaves_when_it_is_told_or_idle_or_its_time_is_over() -> None:
    stays = Departure(Stay(), 0.0)
    assert not stays.reason(1e9, 0)
    stays.is_asked = True
    assert "told" in stays.reason(0.0, 3)
    idle = Departure(Stay(idle_s=10), 0.0)
    assert not idle.reason(9.9, 0)
    assert not idle.reason(20.0, 1)
    assert not idle.reason(29.9, 0)
    assert "10 seconds" in idle.reason(30.0, 0)
    old = Departure(Stay(lifetime_s=5), 100.0)
    assert not old.reason(104.9, 1)
    assert "5 seconds" in old.reason(105.0, 1)
