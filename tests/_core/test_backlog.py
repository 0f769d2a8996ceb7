"""What the hub says of tasks that nobody runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _core.test_keeping import Keeper
from _core.test_leasing import Talk

if TYPE_CHECKING:
    from _core.dialogue import Dialogue
    from scalepool._core.backlog import Held


def held(talk: Dialogue) -> dict[int, Held]:
    return {one.task: one for one in talk.hub.held_back()}


def test_a_task_that_waits_for_values_names_who_makes_them() -> None:
    talk = Keeper()
    gate = talk.keeps()
    talk.ran_by(gate)
    first, second = talk.keeps(gate), talk.keeps(gate)

    found = held(talk)

    waiting = found[second]
    assert (waiting.reason, waiting.makers, waiting.actor) == ("", (gate,), "")
    assert gate not in found
    assert first not in found or found[first].makers == (gate,)


def test_a_task_that_no_resources_are_left_for_says_which() -> None:
    talk = Talk(CPU=4, oven=1)
    group = talk.asks(oven=1)
    first, second = talk.submits(group, 2)
    talk.gets_ready(1)

    found = held(talk)

    assert first not in found
    assert found[second].reason == "resources: 1 oven needed, 0 of 1 free"


def test_a_task_that_has_no_worker_says_whether_some_are_busy_or_starting() -> None:
    talk = Talk(CPU=4)
    group = talk.opens(cap=1)
    (first,) = talk.submits(group)
    assert held(talk)[first].reason == "a worker to start"
    talk.gets_ready(1)
    assert first not in held(talk)
    assert not held(talk)
    tasks = talk.submits(group, 200)

    found = held(talk)

    assert found, "a worker that is busy is not given two hundred tasks at once"
    assert {found[task].reason for task in tasks if task in found} == {"a free worker; 1 is busy"}
