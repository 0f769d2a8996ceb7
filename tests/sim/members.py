"""Simulated workers that run programs: tasks that submit, wait, put, yield, call actors and drop what they have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound
from scalepool._wire.messages import Status
from scalepool._wire.records import PARTS, Part, pack_parts, pack_result, pack_stream_end
from sim.programs import Ask, Crash, Get, Made, Raise, Scope, Work, inside, program
from sim.purse import Purse
from sim.worker import Frame, Plan, SimWorker

if TYPE_CHECKING:
    from collections.abc import Generator

    from sim.society import Society

__all__ = ["Member"]

NOTHING = -1
"""What a frame waits for that waits for no task: room in a stream, or only for a while."""


@dataclass(eq=False)
class Act(Frame):
    """A running task."""

    __hash__ = object.__hash__

    scope: Scope | None = None
    steps: Generator[object, int, None] | None = None
    missing: set[int] = field(default_factory=set)
    """Values that it waits for."""
    raised: bool = False
    position: int = 0
    taken: int = 0
    closed: bool = False
    limit: int = 0
    request: int = 0

    @property
    def has_room(self) -> bool:
        return self.closed or self.position - self.taken < self.limit


class Member(SimWorker):
    """One worker process."""

    frames: list[Frame]

    def __init__(self, world: Society, worker: int) -> None:
        super().__init__(world, worker)
        self.society = world
        self.purse = Purse(worker)
        self.purse.actors = world.actors
        self.state: list[int] = []
        """References that an actor's object keeps."""
        self.roots: dict[int, int] = {}
        self.groups: dict[tuple[int, int], int] = {}
        self.inputs: dict[int, list[tuple[int, bytes | None]]] = {}
        self.carried: dict[int, list[int]] = {}
        self.group_of: dict[int, int] = {}
        self.recent: dict[int, bytes] = {}
        self.lent: list[int] = []
        self.is_actor = False
        """Then its own calls stay while one waits."""

    def send(self, message: m.Message) -> None:
        for one in self.purse.drain():
            super().send(one)
        super().send(message)

    def pump(self) -> None:
        """Say what there is to say."""
        for one in self.purse.drain():
            super().send(one)

    # ---- what the hub says ----

    def receive(self, message: m.Message) -> None:
        if not self.alive or self.waits_for_sigcont(lambda: self.receive(message)):
            return
        if isinstance(message, m.Enter):
            self.roots[message.group] = message.root
        elif isinstance(message, m.Yielded):
            self.purse.yielded(message)
        elif isinstance(message, m.Taken):
            self._note_taken(message)
        elif isinstance(message, ActorFound):
            act = next((one for one in self.acts if one.request == message.request), None)
            if act is not None:
                act.request = 0
                self._advance(act, message.actor)
        super().receive(message)

    @property
    def acts(self) -> list[Act]:
        return [frame for frame in self.frames if isinstance(frame, Act)]

    def _note_taken(self, message: m.Taken) -> None:
        for act in self.acts:
            if act.task == message.task:
                act.closed = act.closed or message.taken < 0
                act.taken = max(act.taken, message.taken)
                if act.limit and act.has_room and act.waiting_for == {NOTHING}:
                    act.waiting_for = set()

    def _take(self, message: m.Run) -> None:
        given = dict(zip(message.values, message.value_payloads, strict=True))
        counts = message.need_counts or [0] * len(message.tasks)
        carried = message.reference_counts or [0] * len(message.tasks)
        at = begin = 0
        for task, group, needs, references in zip(message.tasks, message.groups, counts, carried, strict=True):
            self.inputs[task] = [(need, given.get(need)) for need in message.needs[at : at + needs]]
            self.carried[task] = list(message.references[begin : begin + references])
            self.group_of[task] = group
            at += needs
            begin += references
        super()._take(message)

    def _children_ended(self, message: m.Replies) -> None:
        for value in self.society.take_in(self.purse, message):
            failed = self.purse.known[value].status != Status.VALUE
            for act in self.acts:
                if value in act.missing:
                    act.missing = set() if failed else act.missing - {value}
                    if act.waiting_for != {NOTHING} or not act.missing:
                        act.waiting_for = {self.society.task_of(one) for one in act.missing}

    # ---- what it does ----

    def _begin(self, task: int, attempt: int, known: int) -> None:
        inputs = [(need, self.recent.get(need) if data is None else data) for need, data in self.inputs[task]]
        if any(data is None for _, data in inputs):
            self.send(m.Returned([task], ()))
            self.go_on()
            return
        self.inputs[task] = inputs
        world, spec, group = self.society, self.society.specs[task], self.group_of[task]
        self.is_actor = self.is_actor or task in world.actors
        world.carries[task] = tuple(one for one in self.carried[task] if one in world.all_objects)
        scope = Scope(world, self.purse, spec, self.roots.get(group, group))
        act = Act(task, attempt, Plan(0.0), known=known, scope=scope, limit=max(0, -spec.returns))
        self.frames.append(act)
        self.computing = True
        if world.chance(world.slow_begins):
            world.after(world.random.uniform(0, 0.004), lambda: self._start(act, known))
        else:
            self._start(act, known)

    def _work(self, frame: Frame, plan: Plan) -> None:
        assert isinstance(frame, Act)
        scope = frame.scope
        assert scope is not None
        assert scope.spec is not None
        for need, data in self.inputs[frame.task]:
            assert data is not None
            self.society.note_seen(need, Status.VALUE, data)
            scope.take(inside(data))
        scope.take([one for one in scope.spec.carried if one in self.carried[frame.task]])
        frame.steps = program(scope, scope.spec.steps)
        self._advance(frame, 0, first=True)

    def _advance(self, act: Act, sent: int, *, first: bool = False) -> None:
        if not self.alive or self.waits_for_sigcont(lambda: self._advance(act, sent, first=first)):
            return
        assert act.steps is not None
        try:
            step = next(act.steps) if first else act.steps.send(sent)
        except (StopIteration, Raise) as end:
            act.raised = isinstance(end, Raise)
            self.computing = False
            self._finish(act)
            return
        self.pump()
        self._do(act, step)

    def _do(self, act: Act, step: object) -> None:
        if isinstance(step, Work):
            self.world.after(step.seconds, lambda: self._advance(act, 0))
        elif isinstance(step, Crash):
            self.world.process_ends(self, -11)
        elif isinstance(step, Ask):
            act.request = step.request
            self.send(step.message)
        elif isinstance(step, Get):
            self._get(act, step)
        else:
            assert isinstance(step, Made)
            self._yield(act, step)

    def _get(self, act: Act, step: Get) -> None:
        self.purse.want(step.values)
        act.missing = {value for value in step.values if value not in self.purse.known}
        if not act.missing:
            self.world.after(0.0, lambda: self._advance(act, 0))
            return
        self.computing = False
        act.group = int(not self.is_actor)
        if step.patience_s is None:
            self._begin_wait(act, list(dict.fromkeys(self.society.task_of(one) for one in sorted(act.missing))))
            return

        def give_up() -> None:
            if act.missing:
                act.missing = set()
                act.waiting_for = set()
                self.go_on()

        self.world.after(step.patience_s, give_up)
        self._begin_wait(act, [])

    def go_on(self) -> None:
        if self.is_actor and not self.computing and self.frames and self.frames[-1].waiting_for:
            if self.alive and not self.stopped:
                self._flush()
        else:
            super().go_on()

    def _return_all(self) -> None:
        if not self.is_actor:
            super()._return_all()

    def _begin_wait(self, frame: Frame, tasks: list[int]) -> None:
        frame.waiting_for = set(tasks) or {NOTHING}
        self._return_all()
        self._flush()
        self.blocks += 1
        frame.helps.clear()
        self.send(m.Block(tasks))
        self.go_on()

    def _end_wait(self) -> None:
        act = self.acts[-1]
        self._return_all()
        self.send(m.Unblock())
        act.group = 0
        self.computing = True
        self._advance(act, 0)

    def _yield(self, act: Act, step: Made) -> None:
        world = self.society
        if act.closed:
            self.computing = False
            self._finish(act)
            return
        value = world.new_id(self.id)
        payload = world.note_made(value, step.references)
        world.note_yield(value, act.task, act.position)
        objects = world.make_object(self.id) if world.chance(0.2) else ()
        self.send(m.Yield(act.task, act.attempt, act.position, [value], [payload], step.references, objects))
        act.position += 1
        if act.has_room:
            world.after(0.0005, lambda: self._advance(act, 0))
        else:
            self.computing = False
            act.group = int(not self.is_actor)
            self._begin_wait(act, [])

    def _record(self, frame: Frame, made: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
        assert isinstance(frame, Act)
        assert frame.scope is not None
        scope, spec, world = frame.scope, self.society.specs[frame.task], self.society
        self._keep_some(scope, spec.actor)
        if spec.returns < 0:
            end = pack_stream_end(frame.position, b"%d" % frame.task if frame.raised else b"")
            scope.drop_all()
            return pack_result(frame.task, frame.attempt, Status.ERROR if frame.raised else Status.VALUE, 0, 9, end), ()
        if frame.raised:
            scope.drop_all()
            return pack_result(frame.task, frame.attempt, Status.ERROR, 0, 9, b"%d" % frame.task), ()
        if spec.task == spec.actor:
            scope.drop_all()
            return pack_result(frame.task, frame.attempt, Status.VALUE, 0, 9, b""), ()
        parts, objects = [], list[int]()
        for value in spec.values:
            inner = scope.some([*scope.portable(), *(self.state if spec.peer == 0 else ())], 2)
            for one in inner:
                self.purse.adopt(one)
            self.lent.extend(inner)
            one_object = world.make_object(self.id) if world.chance(0.2) else ()
            objects.extend(one_object)
            parts.append(Part(world.note_made(value, inner), len(one_object) // 4, inner))
        scope.drop_all()
        if len(parts) == 1 and not parts[0].references:
            payload, count = parts[0].payload, len(objects) // 4
            if not count:
                self.recent[spec.task] = payload
            return pack_result(frame.task, frame.attempt, Status.VALUE, count, 9, payload), tuple(objects)
        return pack_result(frame.task, frame.attempt, PARTS, 0, 9, pack_parts(parts)), tuple(objects)

    def _keep_some(self, scope: Scope, actor: int) -> None:
        """What an actor's method has may stay in its object, or go from there."""
        chance = self.world.random
        if not actor:
            return
        for one in scope.some(scope.portable(), 2):
            self.purse.adopt(one)
            self.state.append(one)
        while self.state and chance.random() < 0.3:
            self.purse.drop(self.state.pop(chance.randrange(len(self.state))))

    def _flush(self) -> None:
        super()._flush()
        lent, self.lent = self.lent, []
        for one in lent:
            self.purse.drop(one)
        self.pump()

    def _views(self, frame: Frame) -> tuple[int, ...]:
        kept = super()._views(frame)
        self.society.carries.pop(frame.task, None)
        return kept
