"""Stacks of what an actor runs at the same time: threads, coroutines that wait, and what is in their way."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from scalepool._runtime import inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def values(gate: asyncio.Event) -> AsyncIterator[int]:
    await gate.wait()
    yield 1


async def reads(gate: asyncio.Event) -> None:
    async for _ in values(gate):
        pass


class Awaitable:
    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate

    def __await__(self) -> Iterator[Any]:
        return (yield from self.gate.wait().__await__())

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("nobody may call anything of a user's here")


async def awaits(gate: asyncio.Event) -> None:
    await Awaitable(gate)


def stack_of(function: Any) -> list[str]:
    async def main() -> list[str]:
        gate = asyncio.Event()
        task = asyncio.create_task(function(gate))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = inside._awaited(task.get_coro())
        gate.set()
        await task
        return [name for _, _, name in found]

    return asyncio.run(main())


def test_a_suspended_coroutine_is_followed_to_where_it_waits() -> None:
    assert stack_of(reads) == ["wait", "values", "reads"]
    assert stack_of(awaits) == ["wait", "__await__", "awaits"]


def test_something_that_is_no_coroutine_has_no_stack() -> None:
    assert inside._awaited(None) == []
    assert inside._awaited(object()) == []


def asked(begun: dict[int, Any], room_bytes: int = 60_000) -> dict[str, Any]:
    executor: Any = SimpleNamespace(item=None)
    concurrency: Any = SimpleNamespace(begun=begun, loop_thread=0, waiting=2, tasks={})
    data = inside.answer(executor, concurrency, 1, room_bytes)
    assert len(data) <= room_bytes
    found: dict[str, Any] = json.loads(data)
    return found


def fetch() -> None:
    """Stands for a method."""


def test_calls_of_one_name_at_one_place_are_counted_together() -> None:
    begun = {number: (fetch, 5.0 - number, threading.get_ident()) for number in range(3)}
    found = asked({**begun, 9: (None, 6.0, 0)})

    assert [(one["name"], one["count"]) for one in found["calls"]] == [("fetch", 3), ("", 1)]
    assert found["calls"][0]["running_s"] > found["calls"][1]["running_s"]
    assert found["waiting"] == 3


def test_what_does_not_fit_is_counted_as_left_out() -> None:
    begun: dict[int, Any] = {number: (SimpleNamespace(__qualname__=f"f{number}"), 0.0, 0) for number in range(200)}
    found = asked(begun, 2000)

    assert 0 < len(found["calls"]) < 200
    assert found["left_out"] == 200 - len(found["calls"])


def test_trouble_is_told_and_does_no_harm() -> None:
    begun: Any = None
    assert "cannot be looked into" in asked(begun)["note"]
