"""Who gets an object from where: no place sends to more than two at a time, everybody gets it, whatever fails."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._core.sources import BROKEN, FAN_OUT, GIVEN_UP, HERE, RELAY, UNREACHABLE, Assign, Sources

OBJECT = 7


class Net:
    """Places that fetch one object as they are told; what they fetch ends when its source has it whole."""

    def __init__(self, places: range) -> None:
        self.sources = Sources()
        for place in (0, *places):
            self.sources.listens(place)
        self.receiving: dict[int, int] = {}
        self.holders = {0}
        self.sent: Counter[int] = Counter()

    def take(self, assigned: list[Assign]) -> None:
        for one in assigned:
            assert one.object == OBJECT
            assert one.place not in self.receiving
            assert one.source in (RELAY, *self.holders, *self.receiving)
            self.receiving[one.place] = one.source
            self.sent[one.source] += 1
        for source, count in Counter(self.receiving.values()).items():
            assert source == RELAY or count <= FAN_OUT

    def want(self, place: int) -> None:
        self.take(self.sources.want(OBJECT, place, 0))

    def able(self) -> list[int]:
        """Those whose source has it whole."""
        return sorted(place for place, source in self.receiving.items() if source == RELAY or source in self.holders)

    def end(self, place: int, result: int = HERE) -> None:
        del self.receiving[place]
        if result == HERE:
            self.holders.add(place)
        self.take(self.sources.ended(OBJECT, place, result))


@pytest.mark.parametrize("count", [1, 3, 10, 100])
def test_when_all_ask_at_once_the_owner_sends_it_once(count: int) -> None:
    net = Net(range(1, count + 1))
    for place in range(1, count + 1):
        net.want(place)
    assert len(net.receiving) == count  # nobody waits: who receives it serves others, meanwhile
    while net.receiving:
        net.end(net.able()[0])
    assert net.sent[0] == 1
    assert RELAY not in net.sent
    assert max(net.sent.values()) <= FAN_OUT


def test_one_after_the_other_gets_it_from_whoever_has_sent_least() -> None:
    net = Net(range(1, 101))
    for place in range(1, 101):
        net.want(place)
        net.end(place)
    assert net.sent[0] == 1
    assert max(net.sent.values()) <= FAN_OUT


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_whoever_comes_when_gets_it_once(rng: random.Random, count: int) -> None:
    net = Net(range(1, count + 1))
    coming = list(range(1, count + 1))
    while coming or net.receiving:
        if coming and (not net.receiving or rng.random() < 0.5):
            net.want(coming.pop())
        else:
            net.end(rng.choice(net.able()))
    assert net.holders == set(range(count + 1))
    assert sum(net.sent.values()) == count
    assert net.sent[0] == 1
    assert max(net.sent.values()) <= FAN_OUT


@given(st.randoms(use_true_random=False), st.integers(2, 25))
def test_whatever_fails_everybody_ends(rng: random.Random, count: int) -> None:
    net = Net(range(1, count + 1))
    for place in range(1, count + 1):
        net.want(place)
    alive = set(range(1, count + 1))
    given_up: set[int] = set()
    for _ in range(100 * count):
        if not net.receiving:
            break
        place = rng.choice(sorted(net.receiving))
        luck = rng.random()
        if luck < 0.05 and len(alive) > 1:
            alive.discard(place)
            del net.receiving[place]
            net.holders.discard(place)
            net.take(net.sources.lose(place))
        elif luck < 0.1:
            given_up.add(place)
            net.end(place, GIVEN_UP)
        elif luck < 0.3 and net.receiving[place] != RELAY:
            net.end(place, rng.choice([BROKEN, UNREACHABLE]))
        elif place in net.able():
            net.end(place)
        elif net.receiving[place] not in (*net.receiving, *net.holders):
            net.end(place, BROKEN)  # its source is gone
    assert not net.receiving
    assert (alive - given_up) <= net.holders
    assert len(net.sources) == 1
    net.sources.forget([OBJECT])
    assert len(net.sources) == 0
    assert not any(net.sources._load.values())


def test_without_a_way_it_comes_over_the_head_at_once_the_second_time() -> None:
    net = Net(range(1, 3))
    net.want(1)
    net.end(1, UNREACHABLE)
    assert net.receiving == {1: RELAY}
    net.end(1)
    assert net.sources.want(8, 1, 0) == [Assign(8, 1, RELAY)]  # not tried again
    assert net.sources.want(8, 2, 0) == [Assign(8, 2, 0)]  # of the other nothing is known


def test_who_does_not_listen_is_no_source() -> None:
    sources = Sources()
    sources.listens(2)
    assert sources.want(OBJECT, 1, 0) == [Assign(OBJECT, 1, RELAY)]
    assert sources.want(OBJECT, 2, 0) == [Assign(OBJECT, 2, RELAY)]
    assert sources.got(OBJECT, 2) == []
    assert sources.want(OBJECT, 3, 0) == [Assign(OBJECT, 3, 2)]


def test_what_two_pass_to_each_other_does_not_go_in_a_circle() -> None:
    sources = Sources(fan_out=1)
    for place in range(4):
        sources.listens(place)
    assert sources.want(OBJECT, 1, 0) == [Assign(OBJECT, 1, 0)]
    assert sources.want(OBJECT, 2, 0) == [Assign(OBJECT, 2, 1)]
    assert sources.want(OBJECT, 3, 0) == [Assign(OBJECT, 3, 2)]
    # 1 loses its source, and must not wait for what it sends itself: the owner, though it had failed, is all there is.
    assert sources.ended(OBJECT, 1, UNREACHABLE) == [Assign(OBJECT, 1, RELAY)]


def test_places_are_busy_across_objects_and_others_wait_for_them() -> None:
    sources = Sources(fan_out=1)
    sources.listens(0)
    assert sources.want(1, 5, 0) == [Assign(1, 5, 0)]
    assert sources.want(2, 6, 0) == []
    assert sources.want(2, 6, 0) == []  # asked twice
    assert sources.ended(1, 5, HERE) == [Assign(2, 6, 0)]
    assert sources.want(3, 5, 0) == []
    assert sources.ended(3, 5, GIVEN_UP) == []
    assert sources.ended(2, 6, BROKEN) == [Assign(2, 6, RELAY)]
    assert sources.ended(2, 6, BROKEN) == []
    assert sources.ended(99, 6, HERE) == []
    assert sources.lose(0) == []


def test_a_source_that_breaks_off_again_and_again_is_left() -> None:
    net = Net(range(1, 3))
    net.want(1)
    net.want(2)
    tries = 0
    while net.receiving.get(2) != RELAY:
        tries += 1
        assert tries < 10
        net.end(2, BROKEN)
    net.end(2)
    net.end(1)
    assert net.holders == {0, 1, 2}
