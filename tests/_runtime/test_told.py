"""How calls of detached actors end that do not end by themselves: passed on unread, and an error at the end."""

from __future__ import annotations

from typing import Any

import pytest

from scalepool._runtime.failures import error_of
from scalepool._runtime.group import ErrorTypes
from scalepool._runtime.slots import Slot
from scalepool._runtime.told import told_of
from scalepool._wire.messages import Status
from scalepool._wire.pickling.exceptions import encode_exception
from scalepool._wire.verdict import pack_verdict
from scalepool.errors import ActorDiedError, ActorUnavailableError, ObjectLostError, TaskCancelledError

loaded: list[str] = []
FACTS = {
    "actor": "C", "number": 1, "name": "ns/c", "restarts": 2, "reason": "it fell", "pid": 7, "exitcode": None,
    "cause": 0, "attempt": 1, "item": 0, "task": 0,
}  # fmt: skip


class Spy(Exception):
    def __reduce__(self) -> Any:
        return _spy, ()


def _spy() -> Exception:
    loaded.append("user code")
    return Spy()


def slot_of(status: Status, data: bytes = b"") -> Slot:
    slot = Slot(1, 1, "C.go", int(status))
    slot.data = data
    return slot


def read(record: bytes) -> BaseException:
    errors: Any = ErrorTypes()
    return error_of(errors, "C.go", Status.ERROR, record)


@pytest.mark.parametrize(
    ("status", "kind"), [(Status.ACTOR_DIED, ActorDiedError), (Status.ACTOR_UNAVAILABLE, ActorUnavailableError)]
)
def test_a_dead_actor_is_told_of_as_by_its_own_hub(status: Status, kind: type[BaseException]) -> None:
    error = read(told_of(slot_of(status, pack_verdict(FACTS, b"")), "C.go"))
    assert type(error) is kind
    assert "it fell" in str(error)
    assert error.actor_name == "ns/c"  # type: ignore[attr-defined]


def test_what_the_constructor_raised_is_loaded_by_who_asks_and_nobody_else() -> None:
    raised = encode_exception(Spy(), "")
    loaded.clear()  # encoding tries whether it can be read
    verdict = pack_verdict({**FACTS, "cause": int(Status.ERROR)}, b"", arguments=raised)
    record = told_of(slot_of(Status.ACTOR_DIED, verdict), "C.go")
    assert loaded == []
    error = read(record)
    assert loaded == ["user code"]
    assert type(error) is ActorDiedError
    assert type(error.__cause__) is Spy


def test_cancelled_and_lost() -> None:
    assert type(read(told_of(slot_of(Status.CANCELLED), "C.go"))) is TaskCancelledError
    assert type(read(told_of(slot_of(Status.LOST), "C.go"))) is ObjectLostError
