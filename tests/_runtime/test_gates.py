"""Gates at the steward, between a program's hub and a house of actors that are not there."""

from __future__ import annotations

import json
import os
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from _runtime.test_client import Driver
from scalepool._runtime.gates import GateSession
from scalepool._runtime.house import Opening
from scalepool._runtime.parts import Parts, renumbered, table_objects
from scalepool._runtime.slots import WAITING, Slot
from scalepool._runtime.talks import Talk
from scalepool._store.files import anonymous_file
from scalepool._wire import cluster as c
from scalepool._wire import messages as m
from scalepool._wire.actors import EndMode, OpenActor
from scalepool._wire.carrying import unpack_carry
from scalepool._wire.codec import decode, encode
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps
from scalepool._wire.records import unpack_result
from scalepool._wire.stewards import ATTACH, GATE, Operation, Way, joined
from scalepool.config import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalepool._runtime.house import House
    from scalepool._runtime.packing import Packed

SESSION, NODE, WORKER, GROUP = 7, 8, 3, 99
OPENED = OpenActor(1, 0, b"spec", 0, 1, 1, b"c", b"C", b"meta")
SIZE = 5000
"""Of an object that lies in a segment."""


class Actors:
    """In place of a `House`."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.client = self.driver.client
        self.values = self
        self.done: list[tuple[Any, ...]] = []
        self.slots_made: list[Slot] = []
        self.opening = Opening("open", cast("Any", "actor"), b"meta")
        self.watcher: Callable[[Slot], None]
        self.stored: dict[int, bytes | int] = {}

    def find(self, name: bytes) -> tuple[Any, bytes] | None:
        return ("actor", b"meta") if name == b"there" else None

    def open(self, opened: OpenActor, code: dict[str, str]) -> Opening:
        self.done.append(("open", opened.name, code))
        return self.opening

    def make(self, actor: Any, function: tuple[bytes, Packed], call: Packed, needs: Sequence[Any]) -> None:
        self.done.append(("make", actor, function[0], call.data, needs))

    def call(self, actor: Any, way: Way, returns: int, call: Packed, needs: Sequence[Any]) -> list[Any]:
        self.done.append(("call", actor, way.label, call.data, list(needs)))
        self.stored.update({ref.object_id: ref.size_bytes for ref in call.segments})
        self.slots_made = [Slot(value, 1, way.label, WAITING) for value in range(1, returns + 1)]
        return [f"ref{value}" for value in range(1, returns + 1)]

    def slots(self, refs: Sequence[Any]) -> list[Slot]:
        return self.slots_made

    def watch(self, slots: Sequence[Slot], watcher: Callable[[Slot], None]) -> None:
        self.watcher = watcher

    def keep(self, value: Packed) -> Any:
        return value.data

    def end(self, actor: Any, mode: EndMode) -> None:
        self.done.append(("end", actor, mode))

    def cancel(self, slots: Sequence[Slot]) -> None:
        self.done.append(("cancel", [slot.id for slot in slots]))

    def find_object(self, object_id: int) -> int | None:
        content = self.stored.get(object_id)
        if not isinstance(content, bytes):
            return None
        fd = anonymous_file("test", SIZE)
        os.pwrite(fd, content, 0)
        return fd

    def ends(self, status: Status, *data: bytes, places: Any = None) -> None:
        for slot, one in zip(self.slots_made, data, strict=True):
            slot.status, slot.data, slot.places = int(status), one, places
            self.watcher(slot)


class Program:
    """The program's end, and the steward's part that it speaks with."""

    def __init__(self) -> None:
        self.actors = Actors()
        self._out: list[bytes] = []
        self._in: list[bytes] = []
        begin = c.Begin(SESSION, NODE, json.dumps(list(Settings())).encode(), b"token")
        self.woken = 0
        self.part = GateSession(begin, self._out.append, cast("House", self.actors), pytest.fail, self._wake)
        self._talk = Talk(SESSION, NODE, self._in.append)
        self._count = 0

    def _wake(self) -> None:
        self.woken += 1

    def say(self, message: c.ClusterMessage) -> list[Any]:
        """Say something to the steward, and return what it says."""
        self._talk.say(message)
        while self._in:
            self._hand_on(self._in.pop(0))
        return self.heard()

    def _hand_on(self, data: bytes) -> None:
        """As the steward's agent does."""
        carried = unpack_carry(data)
        if carried is None:
            self.part.obey(c.decode(data))
        else:
            self.part.carried(*carried[2:])

    def heard(self) -> list[Any]:
        found = []
        while self._out:
            message = c.decode(self._out.pop(0))
            if type(message) is c.Said and (data := self._talk.hear(message)) is not None:
                said: Any = c.decode(data)
                found.append(decode(said.data) if type(said) is c.Carry else said)
        return found

    def tell(self, message: m.Message) -> list[Any]:
        return self.say(c.Carry(SESSION, WORKER, encode(message)))

    def run(self, function: bytes, data: bytes = b"-", **more: Any) -> list[Any]:
        """Give the gate one call."""
        self._count += 1
        task = self._count
        return self.tell(m.Run(0, (task,), (function,), (task,), (1,), (GROUP,), (task,), (data,), **more))

    def result(self, said: list[Any]) -> Any:
        (done,) = said
        record = unpack_result(done.records[0])
        assert record.status == Status.VALUE
        return pickle.loads(record.payload)


@pytest.fixture
def program() -> Iterator[Program]:
    """One whose gate is attached."""
    program = Program()
    launched, hello = program.say(c.Launch(SESSION, WORKER, GATE))
    assert (launched.worker, launched.pid) == (WORKER, os.getpid())
    assert (hello.worker, hello.token, hello.version) == (WORKER, b"token", m.WIRE_VERSION)
    assert program.result(program.run(ATTACH)) is None
    yield program
    program.part.close()


def call(program: Program, data: bytes = b"\x80args", **more: Any) -> list[Any]:
    return program.run(Way("C.go", 0, 0.0, b"\x80go").encode(), data, **more)


def test_it_starts_no_workers() -> None:
    (refused,) = Program().say(c.Launch(SESSION, 1, b"spec of a worker"))
    assert (type(refused), refused.moot) == (c.Refused, 0)


def test_what_is_found_is_what_is_called(program: Program) -> None:
    assert program.result(program.run(Operation.FIND.function, b"nobody")) == b""
    (done,) = call(program)
    assert unpack_result(done.records[0]).status == Status.ERROR  # of nobody
    assert program.result(program.run(Operation.FIND.function, b"there")) == b"meta"
    assert call(program) == []
    assert program.actors.done == [("call", "actor", "C.go", b"\x80args", [])]
    program.actors.ends(Status.VALUE, b"\x80result")
    assert program.woken == 1
    program.part.work()
    (done,) = program.heard()
    record = unpack_result(done.records[0])
    assert (record.status, record.payload, record.objects) == (Status.VALUE, b"\x80result", 0)


def test_the_first_call_of_an_actor_that_was_opened_makes_it(program: Program) -> None:
    opened = joined([encode(OPENED), b'{"kit": "digest"}'])
    assert program.result(program.run(Operation.OPEN.function, opened)) == ("open", b"meta", [])
    assert program.result(program.run(b"\x80creation", b"\x80args")) is None
    assert program.actors.done == [
        ("open", b"c", {"kit": "digest"}), ("make", "actor", b"\x80creation", b"\x80args", []),
    ]  # fmt: skip
    (done,) = program.run(b"\x80creation")
    assert unpack_result(done.records[0]).status == Status.ERROR  # not twice
    (ended,) = program.tell(m.Exit())
    assert (type(ended), ended.worker, ended.exitcode) == (c.Ended, WORKER, 0)
    assert len(program.actors.done) == 2  # it lives on


@pytest.mark.parametrize("leave", [lambda one: one.tell(m.Exit()), lambda one: one.part.close()])
def test_one_that_is_never_made_ends_with_its_gate(program: Program, leave: Callable[[Program], object]) -> None:
    program.run(Operation.OPEN.function, joined([encode(OPENED), b"{}"]))
    leave(program)
    assert program.actors.done[-1] == ("end", "actor", EndMode.KILL)


def test_a_name_that_is_taken_is_told(program: Program) -> None:
    program.actors.opening = Opening("taken", cast("Any", "other"), b"its meta")
    said = program.result(program.run(Operation.OPEN.function, joined([encode(OPENED), b"{}"])))
    assert said == ("taken", b"its meta", [])
    program.run(Operation.KILL.function, bytes([EndMode.RESTART]))
    assert program.actors.done[-1] == ("end", "other", EndMode.RESTART)


@pytest.mark.parametrize(
    ("function", "data"),
    [
        (b"\x00dance", b""), (b"\x02nonsense", b""), (Operation.OPEN.function, b"nonsense"), (b"\x80no actor", b""),
        (Operation.OPEN.function, joined([encode(OPENED), b"{"])), (Operation.CODE.function, joined([b"one"])),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_error_of_that_call(program: Program, function: bytes, data: bytes) -> None:
    (done,) = program.run(function, data)
    assert unpack_result(done.records[0]).status == Status.ERROR
    assert program.result(program.run(ATTACH)) is None  # and it goes on


def packed(object_id: int) -> bytes:
    """Return bytes of which the large part lies in an object."""
    payload = dumps([pickle.PickleBuffer(b"x" * SIZE)], oob_threshold=100)
    parts = Parts(payload, 100)
    parts.lie_in(object_id, [1])
    return parts.packed(()).data


def test_numbers_of_objects_change_and_nothing_else() -> None:
    data = packed(11)
    assert table_objects(data) == {11: SIZE}
    other = renumbered(data, {11: 12})
    assert table_objects(other) == {12: SIZE}
    assert renumbered(other, {12: 11}) == data
    assert renumbered(b"\x80pickle", {11: 12}) == b"\x80pickle"
    assert table_objects(b"\x80pickle") == {}


def test_large_arguments_and_needs_are_fetched_before_the_call(program: Program) -> None:
    program.run(Operation.FIND.function, b"there")
    said = call(
        program, packed(11), objects=(11, 0, -1, SIZE), need_counts=(1,), needs=(5,), values=(5,),
        value_payloads=(b"\x80five",),
    )  # fmt: skip
    assert {(fetch.object, fetch.offset, fetch.size) for fetch in said} == {(11, 0, SIZE)}
    assert program.actors.done == []
    assert program.say(c.Chunk(SESSION, NODE, 11, 0, b"x" * SIZE)) == []
    ((_, _, _, data, needs),) = program.actors.done
    (own,) = table_objects(data)
    assert own != 11
    assert program.actors.stored == {own: SIZE}
    assert needs == [b"\x80five"]


def test_large_results_are_fetched_by_the_program_until_it_forgets_them(program: Program) -> None:
    program.run(Operation.FIND.function, b"there")
    call(program)
    program.actors.stored = {21: b"y" * SIZE}
    place = type("Place", (), {"object_id": 21, "size_bytes": SIZE})
    program.actors.ends(Status.VALUE, packed(21), places={21: place})
    program.part.work()
    (done,) = program.heard()
    number, _, _, size = done.objects
    assert number >> 40 == WORKER
    assert size == SIZE
    assert table_objects(unpack_result(done.records[0]).payload) == {number: SIZE}
    fetch = partial(c.Fetch, SESSION, NODE, number, 0, SIZE)
    assert program.say(fetch())[0].data == b"y" * SIZE
    program.tell(m.Free((number,)))
    assert program.say(fetch())[0].data == b""


def test_what_is_cancelled_or_dead_ends_as_an_error(program: Program) -> None:
    program.run(Operation.FIND.function, b"there")
    call(program)
    task = program._count
    (returned,) = program.tell(m.CancelTasks((task,)))
    assert (list(returned.tasks), list(returned.kept)) == ([], [task])  # it may have begun there
    assert program.actors.done[-1] == ("cancel", [1])
    program.actors.ends(Status.CANCELLED, b"")
    program.part.work()
    (done,) = program.heard()
    assert unpack_result(done.records[0]).status == Status.ERROR
