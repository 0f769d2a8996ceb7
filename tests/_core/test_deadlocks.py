"""Circles of waits: found when they are there, and only then; told to the one who waits last."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from _core.dialogue import runs, sent, started
from _core.test_keeping import Keeper
from scalepool._core.deadlocks import AGAIN_S, LOOK_AFTER_S, find_circle
from scalepool._wire import messages as m
from scalepool._wire.actors import Deadlock, EndActor, EndMode, OpenActor, Stall, Unstall
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result


class Stage(Keeper):
    """Actors that call each other."""

    def __init__(self, number: int = 2, concurrency: int = 1) -> None:
        super().__init__()
        self.home: dict[int, int] = {}
        """The worker of each actor."""
        self.actors = [self.engage(concurrency) for _ in range(number)]

    def engage(self, concurrency: int) -> int:
        actor = self.new_id()
        self.says(DRIVER, OpenActor(actor, 0, b"", 0, concurrency, 0, b"", b"A%d" % actor, b"meta"))
        self.submit_to(actor, actor)
        (worker,) = started(self.heard)
        self.gets_ready(worker)
        self.home[actor] = worker
        self.ended(worker, actor)
        return actor

    def submit_to(
        self, actor: int, task: int, peer: int = DRIVER, parent: int = 0, needs: tuple[int, ...] = ()
    ) -> None:
        counts = [len(needs)] if needs else []
        call = m.Submit(
            actor, 0, [7], [b"f"], [task], [7], [b""], parent=parent, returns=[1], need_counts=counts, needs=needs
        )
        self.says(peer, call)

    def call(self, actor: int, peer: int = DRIVER, parent: int = 0, needs: tuple[int, ...] = ()) -> int:
        task = self.new_id(peer)
        self.submit_to(actor, task, peer, parent, needs)
        return task

    def ended(self, worker: int, task: int, status: Status = Status.VALUE) -> None:
        self.says(worker, m.Done([pack_result(task, 1, status, 0, 5, b"\x80")]))

    def asks(self, actor: int, task: int, other: int, needed: int = -1) -> int:
        """The call ``task`` of ``actor`` calls the other, and waits for that."""
        worker = self.home[actor]
        called = self.call(other, worker, task)
        self.waits(actor, task, called, needed=needed)
        return called

    def waits(self, actor: int, task: int, *called: int, needed: int = -1) -> None:
        self.says(self.home[actor], m.Block(called, task, needed * len(called) if needed < 0 else needed, b"me\nyou"))

    def told(self, seconds: float = AGAIN_S) -> list[tuple[int, Deadlock]]:
        said = self.later(seconds)
        return [(peer, one) for peer in self.workers_of(said) for one in sent(said, Deadlock, peer)]

    @staticmethod
    def workers_of(said: list[object]) -> list[int]:
        peers = [
            one.peer for one in said if getattr(one, "peer", None) is not None and isinstance(one.message, Deadlock)
        ]  # type: ignore[attr-defined]
        return list(dict.fromkeys(peers))


def test_two_that_wait_for_each_other_and_the_last_one_hears_of_it() -> None:
    stage = Stage()
    one, other = stage.actors
    first, second = stage.call(one), stage.call(other)
    stage.asks(one, first, other)
    assert stage.told() == []
    stage.asks(other, second, one)
    ((peer, told),) = stage.told(LOOK_AFTER_S)
    assert peer == stage.home[other]
    assert (told.number, told.is_thread) == (1, 0)
    text = told.text.decode()
    assert f"the actor A{one}" in text
    assert f"the actor A{other}" in text
    assert "me (" in text
    assert "waits for you" in text
    assert stage.told(10) == [], "it is told once"
    stage.says(peer, m.Unblock())
    stage.ended(peer, second, Status.ERROR)
    assert runs(stage.heard), "the other one's call begins"
    assert find_circle(stage.hub._state) == []


def test_for_oneself() -> None:
    stage = Stage(1)
    (one,) = stage.actors
    task = stage.call(one)
    stage.asks(one, task, one)
    assert [peer for peer, _ in stage.told()] == [stage.home[one]]


def test_who_only_waits_for_a_circle_is_left_alone() -> None:
    stage = Stage(3)
    one, other, third = stage.actors
    calls = [stage.call(actor) for actor in stage.actors]
    stage.asks(one, calls[0], other)
    stage.asks(other, calls[1], one)
    stage.asks(third, calls[2], one)
    assert [peer for peer, _ in stage.told()] == [stage.home[other]]


@pytest.mark.parametrize("way", ["timeout", "any", "limit", "elsewhere", "killed", "value"])
def test_what_may_end_is_no_circle(way: str) -> None:
    stage = Stage(3)
    one, other, third = stage.actors
    first, second = stage.call(one), stage.call(other)
    stage.asks(one, first, other)
    if way == "timeout":
        stage.call(one, stage.home[other], second)
        stage.waits(other, second)
    elif way in ("any", "elsewhere"):
        back, away = stage.call(one, stage.home[other], second), stage.call(third, stage.home[other], second)
        stage.waits(other, second, back, away, needed=1 if way == "any" else -1)
    elif way == "limit":
        limited = stage.new_id(stage.home[other])
        stage.says(
            stage.home[other], m.Submit(third, 0, [7], [b"f"], [limited], [7], [b""], returns=[1], time_limit_ms=9)
        )
        stage.waits(other, second, limited)
        stage.asks(third, limited, one)
    elif way == "killed":
        stage.asks(other, second, one)
        stage.says(DRIVER, EndActor(one, EndMode.KILL))
    else:
        stage.ended(stage.home[other], second)
    assert stage.told(5) == []


def test_any_of_several_is_a_circle_when_none_of_them_may_end() -> None:
    stage = Stage(3)
    one, other, third = stage.actors
    first, second = stage.call(one), stage.call(other)
    stage.asks(one, first, other)
    away = stage.call(third, stage.home[other], second)
    back = stage.call(one, stage.home[other], second)
    stage.waits(other, second, away, back)
    assert stage.told(5) == []
    stage.ended(stage.home[third], away)
    assert [peer for peer, _ in stage.told(AGAIN_S)] == [stage.home[other]], "it is looked at again and again"


def test_through_what_a_call_needs() -> None:
    stage = Stage()
    one, other = stage.actors
    first = stage.call(one)
    needed = stage.call(one, stage.home[one], first)
    called = stage.call(other, stage.home[one], first, needs=(needed,))
    behind = stage.call(other, stage.home[one], first)
    stage.waits(one, first, called, behind)
    assert [peer for peer, _ in stage.told()] == [stage.home[one]]


def test_threads_count_and_an_event_loop_is_all_of_them() -> None:
    stage = Stage(1, concurrency=2)
    (one,) = stage.actors
    worker = stage.home[one]
    calls = [stage.call(one) for _ in range(2)]
    own = [stage.call(one, worker, task) for task in calls]
    stage.says(worker, Stall(1, calls[0], 0, [own[0]], -1, b"a\nb"))
    assert stage.told(5) == []
    stage.says(worker, Stall(2, calls[1], 0, [own[1]], -1, b"a\nb"))
    assert [(told.number, told.is_thread) for _, told in stage.told(5)] == [(2, 1)]
    stage.says(worker, Unstall(2))
    assert stage.told(5) == []
    stage.says(worker, Stall(3, calls[1], 1, [own[1]], -1, b"a\nb"))
    assert [(told.number, told.is_thread) for _, told in stage.told(5)] == [(3, 1)]


def test_no_looks_when_no_actor_waits() -> None:
    stage = Stage()
    assert stage.hub._state.circles_at is None
    one, other = stage.actors
    task = stage.call(one)
    called = stage.asks(one, task, other)
    assert stage.hub._state.circles_at is not None
    stage.ended(stage.home[other], called)
    stage.says(stage.home[one], m.Unblock())
    stage.later(5)
    assert stage.hub._state.circles_at is None


# ---- random plays ----


@dataclass
class Player:
    """An actor's process, which runs one call after the other; each call asks some others, and waits for each."""

    actor: int
    queue: deque[int] = field(default_factory=deque)
    running: int = 0
    left: list[int] = field(default_factory=list)
    waits_for: int = 0
    blocks: int = 0


class Play:
    """Actors that ask each other at random, without any thought of what may come of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stage = Stage(self.chance.randint(1, 5))
        self.players = {self.stage.home[actor]: Player(actor) for actor in self.stage.actors}
        self.over: dict[int, int] = {}
        self.asked: list[int] = []
        self.deadlocks = 0
        self.depth: dict[int, int] = {}

    def run(self) -> None:
        for _ in range(self.chance.randint(1, 12)):
            actor = self.chance.choice(self.stage.actors)
            task = self.stage.call(actor)
            self.asked.append(task)
            self.depth[task] = 0
            self.hear(self.stage.heard)
            self.go_on()
        quiet_s = 0.0
        while any(task not in self.over for task in self.asked) and quiet_s < 100 * AGAIN_S:
            self.hear(self.stage.later(LOOK_AFTER_S))
            quiet_s = 0.0 if self.go_on() else quiet_s + LOOK_AFTER_S
        assert all(task in self.over for task in self.asked), "somebody waits for ever"

    def hear(self, said: list[object]) -> None:
        for one in said:
            message, peer = getattr(one, "message", None), getattr(one, "peer", None)
            player = self.players.get(peer) if peer is not None else None
            if isinstance(message, m.Run) and player is not None:
                player.queue.extend(message.tasks)
            elif isinstance(message, m.Replies):
                self.over.update(zip(message.tasks, message.statuses, strict=True))
            elif isinstance(message, Deadlock) and player is not None:
                assert message.number == player.blocks
                assert player.waits_for not in self.over, "it was no circle"
                self.deadlocks += 1
                self.say(peer, m.Unblock())
                self.end(peer, player, Status.ERROR)

    def say(self, peer: int, message: m.Message) -> None:
        self.hear(self.stage.says(peer, message))  # type: ignore[arg-type]

    def end(self, peer: int, player: Player, status: Status) -> None:
        task, player.running, player.waits_for = player.running, 0, 0
        self.say(peer, m.Done([pack_result(task, 1, status, 0, 5, b"\x80")]))

    def go_on(self) -> bool:
        """Have all processes do what they can; return whether anything was done."""
        done = False
        for peer, player in list(self.players.items()) * 3:
            if not player.running and player.queue:
                player.running = player.queue.popleft()
                depth = self.depth[player.running]
                player.left = self.chance.choices(self.stage.actors, k=self.chance.randint(0, 2)) if depth < 4 else []
            elif player.running and player.waits_for in self.over:
                self.say(peer, m.Unblock())
                player.waits_for = 0
            elif player.running and not player.waits_for and player.left:
                called = self.stage.call(player.left.pop(), peer, player.running)
                self.hear(self.stage.heard)  # type: ignore[arg-type]
                self.depth[called] = self.depth[player.running] + 1
                player.waits_for = called
                player.blocks += 1
                self.say(peer, m.Block((called,), player.running, -1, b""))
            elif player.running and not player.waits_for:
                self.end(peer, player, Status.VALUE)
            else:
                continue
            done = True
        return done


@pytest.mark.parametrize("seed", range(60))
def test_whatever_they_ask_each_other_everything_ends(seed: int) -> None:
    Play(seed).run()


def test_some_of_these_plays_have_circles_and_some_have_none() -> None:
    counts = []
    for seed in range(60):
        play = Play(seed)
        play.run()
        counts.append(play.deadlocks)
    assert 0 in counts
    assert sum(counts) > 20
