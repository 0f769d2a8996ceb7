"""Actors that are found, called, ended or let go of when there is hardly anything of them yet, or hardly any more."""

from __future__ import annotations

from _core.dialogue import killed, runs, sent, started
from _core.test_actors import Stage, reason_of
from _core.test_keeping import replies
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound, FindActor, OpenActor
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import PARTS, Part, pack_parts, pack_result


def opens(stage: Stage, peer: int) -> int:
    """Open an actor with a name, and find it from the main program, before anybody has said how it is made."""
    actor = stage.new_id(peer)
    stage.says(peer, OpenActor(actor, stage.group, b"spec", 0, 1, 0, b"n", b"Class", b"meta"))
    stage.says(DRIVER, FindActor(5, b"n"))
    assert sent(stage.heard, ActorFound) == [ActorFound(5, actor, b"meta")]
    return actor


def makes(stage: Stage, actor: int, peer: int) -> None:
    stage.says(peer, m.Submit(actor, 0, [7], [b"f"], [actor], [7], [b"args"], returns=[1]))


def test_a_call_that_comes_before_the_constructor_waits_for_it() -> None:
    stage = Stage()
    opener = stage.workers[0]
    actor = opens(stage, opener)
    call = stage.calls(actor)
    assert not started(stage.heard)
    makes(stage, actor, opener)
    worker = stage.worker_of(actor)
    stage.makes(worker, call)
    assert replies(stage.heard)[call][0] == Status.VALUE


def test_an_actor_whose_opener_dies_before_it_says_how_it_is_made_is_dead() -> None:
    stage = Stage()
    opener = stage.workers[0]
    actor = opens(stage, opener)
    call = stage.calls(actor)
    assert "has ended" in reason_of(stage.dies(opener), call)
    stage.drops(actor, call)
    assert actor not in stage.hub._state.groups


def test_the_handles_of_an_actor_that_was_ended_before_it_was_made_stay_handles() -> None:
    stage = Stage()
    opener = stage.workers[0]
    actor = opens(stage, opener)
    stage.ends(actor)
    makes(stage, actor, opener)
    assert set(stage.holds(actor)) == {DRIVER, opener}
    late = stage.calls(actor)
    assert replies(stage.heard)[late][0] == Status.ACTOR_DIED
    stage.drops(actor, late)
    stage.drops(actor, peer=opener)
    assert actor not in stage.hub._state.groups


def test_a_call_may_return_a_handle_of_its_actor_when_all_others_are_gone() -> None:
    stage = Stage()
    actor = stage.engages()
    worker = stage.worker_of(actor)
    call = stage.calls(actor)
    stage.drops(actor)
    stage.says(worker, m.Hold([actor]))
    record = pack_result(call, 1, PARTS, 0, 5, pack_parts([Part(b"me", 0, [actor])]))  # type: ignore[arg-type]
    stage.says(worker, m.Done([record]))
    stage.says(DRIVER, m.Hold([actor]))
    stage.drops(call)
    stage.says(worker, m.Release([actor]))
    second = stage.calls(actor)
    assert runs(stage.heard)[worker] == [second]
    stage.drops(actor)
    assert not sent(stage.heard, m.Exit)
    stage.makes(worker, second)
    assert sent(stage.heard, m.Exit, worker)
    assert not killed(stage.heard)
