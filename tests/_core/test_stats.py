"""Each invariant is noticed when it is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _core.dialogue import Dialogue, started
from scalepool._core.functions import Recent
from scalepool._core.objects import ObjectRecord
from scalepool._core.stats import violations
from scalepool._core.task import TaskState
from scalepool._core.workers import LaunchTrouble, Wait, WorkerState
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker


class Scene:
    """A hub in the middle of its work, with its insides laid open."""

    def __init__(self) -> None:
        talk = Dialogue()
        group = talk.opens(1)
        queued = talk.submits(group, 2)[1]
        (busy,) = started(talk.heard)
        talk.gets_ready(busy)
        private = talk.opens(1, private=True, max_tasks=1)
        (idle,) = talk.starts_workers(private)
        talk.says(0, m.Put([10, 1, 2, 3]))
        self.hub = talk.hub
        self.state: HubState = talk.hub._state
        self.group: Group = self.state.groups[group]
        self.private: Group = self.state.groups[private]
        self.busy: Worker = self.state.roster.workers[busy]
        self.idle: Worker = self.state.roster.workers[idle]
        self.queued: Task = self.state.tasks[queued]
        self.assigned: Task = next(iter(self.busy.held.values()))


def _set(target: str, name: str, value: object) -> Callable[[Scene], None]:
    return lambda scene: setattr(getattr(scene, target), name, value)


def _wait_for_nobody(scene: Scene) -> None:
    wait = Wait([])
    wait.group = scene.private
    scene.busy.waits.append(wait)


def _finish_unnoticed(scene: Scene) -> None:
    scene.group.queued = scene.group.assigned = 0
    scene.group.closing = m.CloseMode.DRAIN


def _stranger_serves(scene: Scene) -> None:
    scene.private.workers[scene.busy.id] = scene.busy


BREAKAGES: list[tuple[Callable[[Scene], object], str]] = [
    (_set("queued", "state", TaskState.ENDED), "has ended but is in the run table"),
    (lambda s: s.state.groups.pop(s.group.id), "belongs to a group that is gone"),
    (lambda s: s.busy.held.clear(), "is assigned to a worker that does not hold it"),
    (_set("group", "queued", 5), "counts wrongly: (1, 1, 0) are queued, assigned"),
    (lambda s: s.state.ready.clear(), "is among the ready ones, or is not"),
    (_set("group", "starting", 1), "counts 1 workers starting, not 0"),
    (_finish_unnoticed, "should have been closed"),
    (lambda s: s.group.children.update({99: s.private}), "has a child that is gone"),
    (_set("group", "owner", 99), "is open although its owner is gone"),
    (lambda s: s.state.roster.workers.pop(s.busy.id), "is served by a worker that is gone"),
    (_stranger_serves, "which does not know of it"),
    (lambda s: s.busy.held.update({s.queued.id: s.queued}), "which is not its own"),
    (_set("idle", "assigned_total", 2), "was given 2 tasks of at most 1"),
    (lambda s: s.state.groups.pop(s.private.id), "outlives the group that it is private to"),
    (_wait_for_nobody, "which does not know of it"),
    (_set("idle", "state", WorkerState.LEAVING), "is listed as idle"),
    (lambda s: s.state.roster.unidle(s.idle), "is free, but not listed as idle"),
    (lambda s: s.state.objects.pin([10]), "counts 1 that carry it, not 0"),
    (lambda s: dict(s.state.objects.items())[10].holders.clear(), "is kept for nobody"),
    (lambda s: s.state.objects.hold(99, [10]), "is held by [99], who are gone"),
    (lambda s: s.state.functions.update({99: Recent()}), "functions of peer 99 are kept"),
    (lambda s: s.state.trouble.update({-99: LaunchTrouble()}), "launch failures of key -99 are kept"),
    (lambda s: s.state.trouble.update({77: LaunchTrouble()}), "launch failures of key 77 are kept"),
]


@pytest.mark.parametrize(("break_it", "sentence"), BREAKAGES, ids=[sentence for _, sentence in BREAKAGES])
def test_a_broken_invariant_is_noticed(break_it: Callable[[Scene], object], sentence: str) -> None:
    scene = Scene()
    assert violations(scene.state) == []
    break_it(scene)
    assert any(sentence in found for found in violations(scene.state))
    with pytest.raises(AssertionError):
        scene.hub.check()


def test_launch_failures_of_shared_workers_may_be_kept() -> None:
    scene = Scene()
    scene.state.trouble[next(iter(scene.state.groups.values())).key] = LaunchTrouble()
    scene.state.functions[scene.busy.id] = Recent()
    assert violations(scene.state) == []
    assert ObjectRecord(1, (1, 2, 3)).holders == set()
