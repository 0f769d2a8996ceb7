"""What simulated programs do, the main program and tasks alike: a generator of steps, drawn from the world's chance."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalepool._wire import messages as m
from scalepool._wire.actors import EndActor, EndMode, FindActor, OpenActor
from scalepool._wire.messages import Status
from sim.purse import Reader

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sim.purse import Purse
    from sim.society import Society

__all__ = ["Ask", "Crash", "Get", "Made", "Raise", "Scope", "Spec", "Work", "inside", "program", "say"]


# ---- steps ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Compute."""

    seconds: float


@dataclass(frozen=True)
class Get:
    """Wait for these values, or only so long; goes on as soon as one of them has failed."""

    values: tuple[int, ...]
    patience_s: float | None = None


@dataclass(frozen=True)
class Ask:
    """Send a question about a name, and wait for the answer: the actor's number."""

    request: int
    message: OpenActor | FindActor


@dataclass(frozen=True)
class Made:
    """The next value of a stream."""

    references: tuple[int, ...]


class Crash:
    """The process ends."""


class Raise(Exception):
    """The task raises."""


# ---- tasks ---------------------------------------------------------------------------------------------------------


@dataclass
class Spec:
    """A task as it was submitted."""

    task: int
    peer: int
    parent: int
    """The task that submitted it; 0: the main program."""
    needs: list[int] = field(default_factory=list)
    carried: list[int] = field(default_factory=list)
    returns: int = 1
    depth: int = 0
    steps: int = 0
    may_get: bool = False
    fails: bool = False
    deadly: bool = False
    length: int = 0
    """Of a stream."""
    actor: int = 0
    """Whose method it is."""

    @property
    def values(self) -> range:
        return range(self.task, self.task + (self.returns if self.returns > 0 else 2))


def say(value: int, nonce: int, references: Sequence[int]) -> bytes:
    """A value's payload: what it is, which attempt made it, and what is inside."""
    return json.dumps([value, nonce, list(references)]).encode()


def inside(payload: bytes) -> list[int]:
    """The references inside a value."""
    return json.loads(payload)[2] if payload.startswith(b"[") else []


class Scope:
    """A program's variables: references, each counted in the purse of its process."""

    def __init__(self, world: Society, purse: Purse, spec: Spec | None, root: int) -> None:
        self.world = world
        self.purse = purse
        self.spec = spec
        self.root = root
        """The group whose workers its own tasks share."""
        self.owned: list[int] = []
        self.is_over = False

    @property
    def task(self) -> int:
        return self.spec.task if self.spec is not None else 0

    @property
    def depth(self) -> int:
        return self.spec.depth + 1 if self.spec is not None else 0

    # ---- variables ----

    def take(self, values: Sequence[int]) -> None:
        """References that came in something."""
        for value in values:
            self.purse.adopt(value)
            self.owned.append(value)

    def drop(self, number: int = 1) -> None:
        for _ in range(min(number, len(self.owned))):
            self.purse.drop(self.owned.pop(self.world.random.randrange(len(self.owned))))

    def drop_all(self) -> None:
        self.drop(len(self.owned))

    def plain(self) -> list[int]:
        """Those that stand for values which come for sure, one day."""
        return [one for one in self.owned if self.world.is_plain(one)]

    def handles(self) -> list[int]:
        return [one for one in self.owned if one in self.world.actors]

    def some(self, values: Sequence[int], most: int) -> list[int]:
        chance = self.world.random
        return [chance.choice(values) for _ in range(chance.randint(0, most))] if values else []

    def portable(self) -> list[int]:
        """What may travel: the right to read a stream may not."""
        return [one for one in self.owned if one - 1 not in self.world.streams]

    # ---- deeds ----

    def submit(self) -> None:
        """Call a function, or a method of an actor."""
        world, chance = self.world, self.world.random
        handles = self.handles()
        actor = chance.choice(handles) if handles and chance.random() < 0.5 else 0
        group, may_get = (actor, False) if actor else world.group_for(self)
        spec = self._spec(actor, may_get=may_get)
        retries = chance.choice([0, 0, 0, 2])
        world.enter(spec, group, retries)
        objects = list(world.make_object(self.purse.peer)) if chance.random() < 0.1 else []
        world.carries[spec.task] = tuple(objects[:1])
        carried = [*spec.carried, *objects[:1]]
        if spec.returns < 0:
            self.purse.readers[spec.task] = Reader(spec.task)
        self.purse.own(spec.values)
        self.owned.extend(spec.values)
        self.purse.post(
            m.Submit(
                group, retries, [7], [b"f"], [spec.task], [7], [b""], [len(carried)] if carried else [], carried,
                objects, parent=self.task, returns=[spec.returns],
                need_counts=[len(spec.needs)] if spec.needs else [], needs=spec.needs,
            )
        )  # fmt: skip

    def _spec(self, actor: int, *, may_get: bool) -> Spec:
        world, chance = self.world, self.world.random
        returns = chance.choice([1, 1, 1, 2, 3])
        # Who reads must go on reading; and a stream that waits for its reader holds up the calls behind it.
        if chance.random() < 0.1 and (self.spec is None or not actor):
            returns = -chance.choice([1, 2, 100])
        task = world.new_id(self.purse.peer)
        for _ in range(max(1, returns - 1 if returns > 0 else 1)):
            world.new_id(self.purse.peer)
        return Spec(
            task, self.purse.peer, self.task, self.some(self.plain(), 2), self.some(self.portable(), 2), returns,
            self.depth, chance.choice([0, 1, 3, 7]) if self.depth < 2 else 0, may_get,
            not world.calm and chance.random() < 0.03, not world.calm and chance.random() < 0.01,
            chance.choice([0, 1, 2, 6]), actor,
        )  # fmt: skip

    def put(self) -> None:
        value = self.world.new_id(self.purse.peer)
        references = self.some(self.portable(), 2)
        payload = self.world.note_made(value, references)
        objects = self.world.make_object(self.purse.peer) if self.world.random.random() < 0.3 else ()
        self.purse.own((value,))
        self.purse.replies[value] -= 1
        self.purse.arrived(value, Status.VALUE, payload, objects[:1])
        self.owned.append(value)
        self.purse.post(m.Keep(value, payload, references, objects))

    def engage(self) -> Generator[Ask, int, None]:
        """Open an actor, perhaps under a name that is taken."""
        world, chance = self.world, self.world.random
        if len(world.actors) >= world.most_actors:
            return
        actor = world.new_id(self.purse.peer)
        name = chance.choice([b"", b"", b"a", b"b"])
        detached = int(chance.random() < 0.1)
        restarts = chance.choice([0, 0, 1, 3, -1])
        demand = world.demand_of_actor()
        message = OpenActor(
            actor, self.root, b"", restarts, chance.choice([1, 1, 5]), detached, name, b"Sim", b"meta", *demand
        )
        world.note_actor(actor, restarts, bool(name))
        if name:
            self.purse.begin_question()
            found = yield Ask(actor, message)
            self.purse.replies[found] += found != actor
            if found != actor:
                self.take([found])
                self.purse.questions -= 1
                return
        else:
            self.purse.post(message)
        # What a task waits for may be an actor that it finds by its name: that must not wait for the task.
        needs = self.some(self.plain(), 1) if not name else []
        spec = Spec(actor, self.purse.peer, self.task, needs, self.some(self.portable(), 1), depth=9, actor=actor)
        spec.deadly = restarts >= 0 and not world.calm and chance.random() < 0.1
        spec.fails = not world.calm and chance.random() < 0.05
        world.enter(spec, actor, 1 << 30 if restarts < 0 else restarts)
        world.cap[actor] = 1
        self.purse.own((actor,))
        self.purse.questions -= bool(name)
        self.owned.append(actor)
        self.purse.post(
            m.Submit(
                actor, 0, [7], [b"f"], [actor], [7], [b""], [len(spec.carried)] if spec.carried else [], spec.carried,
                (), parent=self.task, returns=[1], need_counts=[len(needs)] if needs else [], needs=needs,
            )
        )  # fmt: skip

    def find(self) -> Generator[Ask, int, None]:
        request = self.world.new_id(self.purse.peer)
        self.purse.begin_question()
        found = yield Ask(request, FindActor(request, self.world.random.choice([b"a", b"b"])))
        if found:
            self.take([found])
        self.purse.questions -= 1

    def end_actor(self) -> None:
        handles = self.handles()
        if handles and not self.world.calm:
            actor = self.world.random.choice(handles)
            self.purse.post(EndActor(actor, self.world.random.choice([EndMode.KILL, EndMode.RESTART])))

    def cancel(self) -> None:
        tasks = [self.world.makers[one].task for one in self.plain() if one in self.world.makers]
        if tasks and not self.world.calm:
            task, recursive = self.world.random.choice(tasks), self.world.random.randint(0, 1)
            self.world.note_cancel(task, recursive=bool(recursive))
            self.purse.post(self.world.random.choice([m.Cancel, m.Stop])([task], recursive))

    def read(self) -> None:
        """Take what has come of a stream."""
        for reader in list(self.purse.readers.values()):
            if reader.arrived and reader.task + 1 in self.owned:
                number = self.world.random.randint(1, len(reader.arrived))
                values, reader.arrived = reader.arrived[:number], reader.arrived[number:]
                reader.taken += number
                self.owned.extend(values)
                self.purse.post(m.Taken(reader.task, reader.taken))

    def get(self, patience_s: float | None) -> Generator[Get, None, None]:
        """Wait for some values, and take what is inside."""
        values = self.some(self.plain(), 3)
        if values:
            yield Get(tuple(dict.fromkeys(values)), self.world.random.choice([patience_s, patience_s, 0.01]))
            for value in values:
                known = self.purse.known.get(value)
                if known is not None and known.status == Status.VALUE:
                    self.take(inside(known.payload))


def program(scope: Scope, steps: int) -> Generator[object, int, None]:
    """Do so many things; the generator ends with Raise where the task raises."""
    chance, spec = scope.world.random, scope.spec
    for _ in range(steps):
        yield Work(chance.choice([0.00001, 0.0005, 0.01]))
        yield from _something(scope)  # type: ignore[misc]
    if spec is not None and spec.returns < 0:
        for _ in range(spec.length):
            yield Made(tuple(scope.some(scope.portable(), 1)))
    yield Work(chance.choice([0.00001, 0.0005, 0.01]))
    if spec is not None and spec.deadly:
        yield Crash()
    if spec is not None and spec.fails:
        raise Raise


def _something(scope: Scope) -> Generator[object, int, None]:
    what = scope.world.random.random()
    if what < 0.35:
        scope.submit()
    elif what < 0.5:
        yield from scope.get(None if scope.spec is None or scope.spec.may_get else 0.01)  # type: ignore[misc]
    elif what < 0.6:
        scope.put()
    elif what < 0.68:
        yield from scope.engage()
    elif what < 0.72:
        yield from scope.find()
    elif what < 0.9:
        scope.drop(scope.world.random.randint(1, 3))
    elif what < 0.93:
        scope.cancel()
    elif what < 0.96:
        scope.end_actor()
    else:
        scope.read()
