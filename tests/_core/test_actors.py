"""Actors in the hub: what starts when, how they begin anew, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _core.dialogue import ends, killed, runs, sent, started
from _core.test_keeping import Keeper, replies
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound, EndActor, EndMode, FindActor, OpenActor
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.verdict import unpack_verdict
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._core.commands import Command


class Stage(Keeper):
    """A group of two for tasks, and words for what is done with actors."""

    def engages(
        self,
        *needs: int,
        peer: int = DRIVER,
        restarts: int = 0,
        name: bytes = b"",
        detached: bool = False,
        concurrency: int = 1,
    ) -> int:
        actor = self.new_id(peer)
        self.says(
            peer,
            OpenActor(actor, self.group, b"spec", restarts, concurrency, int(detached), name, b"Class", b"meta"),
        )
        message = m.Submit(
            actor, 0, [7], [b"f"], [actor], [7], [b"args"],
            returns=[1], need_counts=[len(needs)] if needs else [], needs=needs,
        )  # fmt: skip
        self.says(peer, message)
        return actor

    def worker_of(self, actor: int) -> int:
        """Let the worker that was just ordered get ready, and make the object."""
        (worker,) = started(self.heard)
        self.gets_ready(worker)
        assert runs(self.heard)[worker][0] == actor
        self.makes(worker, actor, b"")
        return worker

    def calls(self, actor: int, *needs: int, peer: int = DRIVER, parent: int = 0, max_retries: int = 0) -> int:
        return self.keeps(*needs, group=actor, peer=peer, parent=parent, max_retries=max_retries)

    def ends(self, actor: int, mode: EndMode = EndMode.KILL, peer: int = DRIVER) -> list[Command]:
        return self.says(peer, EndActor(actor, mode))

    def drops(self, *values: int, peer: int = DRIVER) -> list[Command]:
        return self.says(peer, m.Release(values))


def reason_of(commands: list[Command], task: int) -> str:
    status, payload = replies(commands)[task]
    assert status == Status.ACTOR_DIED
    return str(unpack_verdict(payload).facts["reason"])


def test_an_actor_gets_a_process_of_its_own_and_is_made_before_it_is_called() -> None:
    stage = Stage()
    actor = stage.engages()
    (worker,) = started(stage.heard)
    first, second = stage.calls(actor), stage.calls(actor)
    stage.gets_ready(worker)
    assert runs(stage.heard)[worker][0] == actor
    (enter,) = sent(stage.heard, m.Enter, worker)
    assert (enter.group, enter.root) == (actor, stage.group)
    stage.makes(worker, actor, b"")
    assert replies(stage.heard)[actor] == (Status.VALUE, b"meta")
    assert stage.hub._state.tasks.keys() == {first, second}


def test_no_process_is_started_before_the_constructor_has_its_arguments() -> None:
    stage = Stage()
    argument = stage.keeps()
    maker = stage.ran_by(argument)
    actor = stage.engages(argument)
    call = stage.calls(actor)
    assert not started(stage.heard)
    stage.makes(maker, argument)
    (worker,) = started(stage.heard)
    stage.gets_ready(worker)
    assert runs(stage.heard)[worker] == [actor, call]  # it runs them in this order


def test_a_call_that_waits_holds_up_its_caller_and_nobody_else() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    argument = stage.keeps()
    maker = stage.ran_by(argument)
    waiting, behind = stage.calls(actor, argument), stage.calls(actor)
    assert not runs(stage.heard)
    other = stage.calls(actor, parent=argument)  # a task that runs in the same peer
    assert runs(stage.heard)[worker] == [other]
    stage.makes(worker, other)
    stage.makes(maker, argument)
    ran = [*runs(stage.heard)[worker]]
    stage.makes(worker, waiting)
    assert [*ran, *runs(stage.heard).get(worker, [])] == [waiting, behind]


def test_a_call_that_is_cancelled_or_fails_lets_those_behind_it_start() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    argument = stage.keeps()
    first, second = stage.calls(actor, argument), stage.calls(actor, argument)
    third = stage.calls(actor)
    stage.says(DRIVER, m.Cancel([first]))
    assert replies(stage.heard)[first][0] == Status.CANCELLED
    assert not runs(stage.heard)
    stage.fails(1 if argument in stage.hub._state.roster.workers[1].held else 2, argument)
    assert replies(stage.heard)[second][0] == Status.ERROR
    assert runs(stage.heard)[worker] == [third]


def test_a_constructor_that_fails_ends_all_calls_now_and_later() -> None:
    stage = Stage()
    actor = stage.engages()
    (worker,) = started(stage.heard)
    stage.gets_ready(worker)
    call = stage.calls(actor)
    stage.fails(worker, actor, b"why")
    assert "constructor" in reason_of(stage.heard, call)
    facts = unpack_verdict(replies(stage.heard)[call][1])
    assert (facts.facts["cause"], facts.arguments) == (Status.ERROR, b"why")
    assert sent(stage.heard, m.Exit, worker)
    late = stage.calls(actor)
    assert "constructor" in reason_of(stage.heard, late)
    stage.dies(worker, exitcode=0)
    stage.drops(actor)
    assert actor not in stage.hub._state.groups


def test_the_last_handle_ends_it_after_its_calls() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    call = stage.calls(actor)
    stage.drops(actor)
    assert not sent(stage.heard, m.Exit)
    stage.makes(worker, call)
    assert replies(stage.heard)[call][0] == Status.VALUE
    assert sent(stage.heard, m.Exit, worker)
    stage.dies(worker, exitcode=0)
    assert actor not in stage.hub._state.groups


def test_a_death_ends_it_and_says_what_it_died_of() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    running = stage.calls(actor)
    queued = stage.calls(actor)
    stage.dies(worker, running, exitcode=-11)
    facts = unpack_verdict(replies(stage.heard)[running][1]).facts
    assert (facts["exitcode"], facts["actor"], facts["task"]) == (-11, "Class", running)
    assert replies(stage.heard)[queued][0] == Status.ACTOR_DIED
    assert not started(stage.heard)


def test_it_begins_anew_as_often_as_it_may() -> None:
    stage = Stage()
    actor = stage.engages(restarts=1)
    worker = stage.worker_of(actor)
    running, queued = stage.calls(actor), stage.calls(actor)
    stage.dies(worker, running)
    assert replies(stage.heard)[running][0] == Status.ACTOR_UNAVAILABLE
    (second,) = started(stage.heard)
    stage.gets_ready(second)
    assert runs(stage.heard)[second][0] == actor
    stage.says(second, m.Done([_record(actor, 2)]))
    assert actor not in replies(stage.heard)  # that was told before
    given = runs(stage.heard).get(second, []) or list(stage.hub._state.roster.workers[second].held)
    assert given == [queued]
    stage.dies(second, queued)
    assert replies(stage.heard)[queued][0] == Status.ACTOR_DIED


def test_a_call_that_may_be_tried_again_runs_first_in_the_next_life() -> None:
    stage = Stage()
    actor = stage.engages(restarts=-1)
    worker = stage.worker_of(actor)
    running, queued = stage.calls(actor, max_retries=1), stage.calls(actor)
    stage.dies(worker, running)
    assert not replies(stage.heard)
    (second,) = started(stage.heard)
    stage.gets_ready(second)
    stage.says(second, m.Done([_record(actor, 2)]))
    assert list(stage.hub._state.roster.workers[second].held)[:1] == [running]
    assert queued in stage.hub._state.tasks


def test_what_it_was_made_of_is_kept_only_while_it_may_begin_anew() -> None:
    stage = Stage()
    argument = stage.keeps()
    stage.makes(stage.ran_by(argument), argument)
    actor = stage.engages(argument, restarts=1)
    worker = stage.worker_of(actor)
    stage.drops(argument)
    assert argument in stage.hub._state.values
    stage.dies(worker)
    (second,) = started(stage.heard)
    stage.gets_ready(second)
    stage.says(second, m.Done([_record(actor, 2)]))
    assert argument not in stage.hub._state.values


def test_kill() -> None:
    stage = Stage()
    actor = stage.engages(restarts=5)
    worker = stage.worker_of(actor)
    call = stage.calls(actor)
    stage.ends(actor)
    assert killed(stage.heard) == {worker: True}
    assert "kill" in reason_of(stage.heard, call)
    stage.ends(actor)
    assert not killed(stage.heard)
    stage.dies(worker, call)
    assert not started(stage.heard)


def test_kill_before_there_is_a_process() -> None:
    stage = Stage()
    actor = stage.engages()
    (worker,) = started(stage.heard)
    call = stage.calls(actor)
    stage.ends(actor)
    assert "kill" in reason_of(stage.heard, call)
    stage.gets_ready(worker)
    assert worker in killed(stage.later(5)) or worker in killed(stage.heard) or not runs(stage.heard)
    stage.dies(worker)
    assert not started(stage.heard)


def test_it_may_exit_itself_and_nobody_else_may_say_so() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    call = stage.calls(actor)
    with pytest.raises(ProtocolError, match="is not actor"):
        stage.ends(actor, EndMode.EXIT)
    stage.ends(actor, EndMode.EXIT, peer=worker)
    assert "exit_actor" in reason_of(stage.heard, call)
    assert sent(stage.heard, m.Exit, worker)
    stage.makes(worker, call)  # late
    assert not ends(stage.heard)


def test_names() -> None:
    stage = Stage()
    actor = stage.engages(name=b"n")
    worker = stage.worker_of(actor)
    other = stage.new_id()
    stage.says(DRIVER, OpenActor(other, 0, b"spec", 0, 1, 0, b"n", b"Class", b"meta"))
    assert sent(stage.heard, ActorFound) == [ActorFound(other, actor, b"meta")]
    assert other not in stage.hub._state.groups
    stage.says(stage.workers[0], FindActor(5, b"n"))
    assert sent(stage.heard, ActorFound, stage.workers[0]) == [ActorFound(5, actor, b"meta")]
    assert stage.holds(actor) == (DRIVER, stage.workers[0])
    stage.says(DRIVER, FindActor(6, b"other"))
    assert sent(stage.heard, ActorFound) == [ActorFound(6, 0, b"")]
    stage.drops(actor)
    stage.drops(actor, peer=stage.workers[0])
    assert sent(stage.heard, m.Exit, worker)
    stage.says(DRIVER, FindActor(7, b"n"))
    assert sent(stage.heard, ActorFound) == [ActorFound(7, 0, b"")]


def test_a_detached_actor_lives_until_it_is_killed() -> None:
    stage = Stage()
    actor = stage.engages(name=b"n", detached=True)
    worker = stage.worker_of(actor)
    stage.drops(actor)
    assert not sent(stage.heard, m.Exit)
    stage.ends(actor)
    assert killed(stage.heard) == {worker: True}
    stage.dies(worker)
    assert actor not in stage.hub._state.groups


def test_a_worker_that_made_it_and_is_gone_takes_only_its_handle_along() -> None:
    stage = Stage()
    first = stage.workers[0]
    actor = stage.engages(peer=first)
    worker = stage.worker_of(actor)
    stage.says(DRIVER, m.Hold([actor]))
    stage.dies(first)
    call = stage.calls(actor)
    assert runs(stage.heard)[worker] == [call]
    stage.makes(worker, call)
    stage.drops(actor)
    assert sent(stage.heard, m.Exit, worker)


def test_a_process_that_cannot_be_started() -> None:
    stage = Stage()
    actor = stage.engages()
    call = stage.calls(actor)
    (worker,) = [number for number in stage.hub._state.roster.workers if number not in stage.workers]
    for _ in range(3):
        stage.fails_to_start(worker)
        worker += 1
    assert "no more processes" in reason_of(stage.heard, call)


def test_an_actor_that_runs_several_calls_gets_as_many() -> None:
    stage = Stage()
    actor = stage.engages(concurrency=10)
    worker = stage.worker_of(actor)
    calls = [stage.calls(actor) for _ in range(30)]
    assert len(stage.hub._state.roster.workers[worker].held) >= 10
    stage.dies(worker, *calls[:3])
    assert set(ends(stage.heard).values()) == {Status.ACTOR_DIED}


@pytest.mark.parametrize("mode", [EndMode.KILL, EndMode.RESTART])
def test_ending_what_is_not_there_does_nothing(mode: EndMode) -> None:
    stage = Stage()
    assert not stage.ends(12345, mode)
    assert not stage.ends(stage.group, mode)


def test_messages_that_make_no_sense() -> None:
    stage = Stage()
    actor = stage.engages()
    with pytest.raises(ProtocolError, match="there already"):
        stage.says(DRIVER, OpenActor(actor, 0, b"spec", 0, 1, 0, b"", b"Class", b"meta"))
    stage.worker_of(actor)
    again = m.Submit(actor, 0, [7], [b"f"], [actor], [7], [b"args"], returns=[1])
    with pytest.raises(ProtocolError, match="made twice"):
        stage.says(DRIVER, again)


def _record(task: int, attempt: int) -> bytes:
    from scalepool._wire.records import pack_result

    return pack_result(task, attempt, Status.VALUE, 0, 5, b"")


def test_a_handle_of_itself_does_not_keep_an_actor() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    stage.says(worker, m.Hold([actor]))
    stage.says(stage.workers[0], m.Hold([actor]))
    stage.drops(actor)
    assert not sent(stage.heard, m.Exit)
    stage.drops(actor, peer=stage.workers[0])
    assert sent(stage.heard, m.Exit, worker)
    stage.drops(actor, peer=worker)
    stage.dies(worker, exitcode=0)
    assert actor not in stage.hub._state.groups
    assert not stage.hub._state.values.borrowed


def test_a_constructor_that_kills_its_process_is_not_tried_in_a_loop() -> None:
    stage = Stage()
    actor = stage.engages(restarts=-1)
    pauses = []
    for _ in range(8):
        (worker,) = started(stage.heard) or started(stage.later(0.0))
        stage.gets_ready(worker)
        assert runs(stage.heard)[worker] == [actor]
        stage.dies(worker, actor)
        assert not started(stage.heard)
        began = stage.now
        while not started(stage.later(0.01)):
            assert stage.now - began < 2
        pauses.append(round(stage.now - began, 3))
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert 0.9 < pauses[-1] < 1.2
