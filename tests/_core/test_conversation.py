"""Everything said arrives once and in order, whatever is lost on the way."""

from __future__ import annotations

import random
from collections import deque

import pytest

from scalepool._core.conversation import FULL_BYTES, Conversation
from scalepool.errors import ProtocolError


class Side:
    """A conversation, what was said on it and what came."""

    def __init__(self) -> None:
        self.talk = Conversation()
        self.way: deque[tuple[str, int, int, bytes]] = deque()
        """What is on its way from here."""
        self.said: list[bytes] = []
        self.came: list[bytes] = []

    def say(self, data: bytes) -> None:
        self.said.append(data)
        number = self.talk.say(data)
        if self.talk.open:
            self.way.append(("said", number, self.talk.heard, data))

    def rest(self) -> None:
        if self.talk.owes_at_rest:
            self.way.append(("heard", self.talk.tell(), 0, b""))

    def renew(self) -> None:
        self.talk.cut()
        self.way.append(("resume", self.talk.tell(), 0, b""))

    def take(self, kind: str, number: int, heard: int, data: bytes) -> None:
        if kind == "resume":
            self.way.extend(("said", again, self.talk.heard, kept) for again, kept in self.talk.resume(number))
        elif kind == "heard":
            self.talk.known(number)
        elif self.talk.hear(number, heard, len(data)):
            self.came.append(data)
            if self.talk.owes:
                self.way.append(("heard", self.talk.tell(), 0, b""))
        elif self.talk.misses(number):
            self.way.append(("resume", self.talk.tell(), 0, b""))


class Head:
    """Between the two: what was sent to it, and what it has not passed on, is lost when it dies."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sides = Side(), Side()
        self.hops: tuple[deque[tuple[str, int, int, bytes]], ...] = deque(), deque()

    def step(self, at: int) -> bool:
        side, other, hop = self.sides[at], self.sides[1 - at], self.hops[at]
        if side.way and (not hop or self.rng.random() < 0.5):
            hop.append(side.way.popleft())
            return True
        if hop:
            other.take(*hop.popleft())
            return True
        return False

    def die(self) -> None:
        for at, side in enumerate(self.sides):
            # A part of what is under way arrives, the rest does not.
            for _ in range(self.rng.randrange(4)):
                self.step(at)
            self.hops[at].clear()
            side.way.clear()
            side.talk.cut()

    def lose_some(self) -> None:
        for hop in self.hops:
            if hop and self.rng.random() < 0.1:
                hop.popleft()

    def come_back(self) -> None:
        for side in self.sides:
            side.renew()

    def run_dry(self) -> None:
        while any([self.step(0), self.step(1)]):
            pass


def run(seed: int, *, leaky: bool) -> Head:
    rng = random.Random(seed)
    head = Head(rng)
    up = True
    for turn in range(rng.randrange(200)):
        chance = rng.random()
        if chance < 0.4:
            head.sides[rng.randrange(2)].say(b"%d" % turn * (9_000 if chance < 0.01 else 1))
        elif chance < 0.9:
            if up:
                head.step(rng.randrange(2))
        elif chance < 0.92:
            head.sides[rng.randrange(2)].rest()
        elif chance < 0.95:
            head.die()
            up = False
        elif not up:
            head.come_back()
            up = True
        elif leaky:
            head.lose_some()
    if not up or leaky:
        head.die()
        head.come_back()
    head.run_dry()
    return head


@pytest.mark.parametrize("leaky", [False, True])
def test_all_that_is_said_arrives_once_and_in_order(leaky: bool) -> None:
    cuts = 0
    for seed in range(3000):
        one, other = run(seed, leaky=leaky).sides
        assert other.came == one.said, seed
        assert one.came == other.said, seed
        cuts += len(one.said)
        for side in (one, other):
            assert side.talk.kept_bytes == sum(len(data) for _, data in side.talk._kept), seed
    assert cuts > 10_000


def test_what_was_heard_is_forgotten_soon() -> None:
    head = Head(random.Random(1))
    most = 0
    for _ in range(1000):
        head.sides[0].say(b"x" * 1000)
        head.run_dry()
        most = max(most, head.sides[0].talk.kept_bytes)
    assert most < 100_000
    head.sides[0].say(b"x" * 1_000_000)
    head.run_dry()
    assert head.sides[0].talk.kept_bytes == 0


def test_who_can_wait_is_told_to() -> None:
    talk = Conversation()
    assert not talk.is_full
    talk.cut()
    block = b"x" * (1 << 20)
    for _ in range((FULL_BYTES >> 20) + 1):
        talk.say(block)
    assert talk.is_full
    assert len(talk.resume(0)) == (FULL_BYTES >> 20) + 1
    talk.known(3)
    assert not talk.is_full


def test_nonsense_is_refused() -> None:
    talk = Conversation()
    talk.say(b"")
    talk.say(b"")
    with pytest.raises(ProtocolError, match="is said to be heard"):
        talk.known(3)
    with pytest.raises(ProtocolError):
        talk.hear(1, 3, 0)
    assert talk.heard == 0
    talk.known(2)
    with pytest.raises(ProtocolError, match="has forgotten"):
        talk.resume(1)


def test_what_was_heard_last_is_said_when_nobody_says_more() -> None:
    head = Head(random.Random(1))
    one, other = head.sides
    one.say(b"x" * 100)
    head.run_dry()
    assert one.talk.kept_bytes == 100  # it is little, and may be said with something else
    assert other.talk.owes_at_rest
    assert not one.talk.owes_at_rest
    other.rest()
    head.run_dry()
    assert one.talk.kept_bytes == 0
    assert not other.talk.owes_at_rest  # what is heard of hearing is no news
    assert not one.talk.owes_at_rest


def test_nothing_is_said_at_rest_while_there_is_no_way() -> None:
    head = Head(random.Random(1))
    one, other = head.sides
    one.say(b"x")
    head.run_dry()
    head.die()
    assert not other.talk.owes_at_rest
    head.come_back()
    head.run_dry()
    assert one.talk.kept_bytes == 0
