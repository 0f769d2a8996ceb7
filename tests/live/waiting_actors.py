"""Actors that wait for each other."""

from __future__ import annotations

import threading
from typing import Any

import scalepool


@scalepool.remote
class Waiter:
    """Calls others, and waits for what they return."""

    def __init__(self) -> None:
        self.other: Any = None
        self.me: Any = None
        self.gate = threading.Event()

    def meet(self, other: Any, me: Any = None) -> None:
        self.other, self.me = other, me

    def ask(self, method: str, *args: Any) -> Any:
        """Call a method of the other one, and wait."""
        return scalepool.get(getattr(self.other, method).remote(*args))

    def ask_myself(self, how: str, method: str = "plain") -> Any:
        ref = getattr(self.me, method).remote()
        if how == "get":
            return scalepool.get(ref)
        if how == "wait":
            return len(scalepool.wait([ref])[0])
        if how == "as_completed":
            return len(list(scalepool.as_completed([ref])))
        if how == "stream":
            return [scalepool.get(one) for one in self.me.count.remote()]
        return scalepool.wait([ref], timeout=0.5)[0]

    def begin(self, method: str) -> None:
        """Have a thread wait, which goes on when this method has ended."""
        self.found: list[Any] = []
        thread = threading.Thread(target=lambda: self.found.append(self.ask_myself("get", method)))
        thread.start()
        self.thread = thread

    def finished(self) -> Any:
        self.thread.join(0.01)
        return list(self.found)

    def wait_for_any(self, other: Any) -> Any:
        """Wait for whichever is first: a call of one's own, or another one's."""
        mine, others = self.me.plain.remote(), other.remote()
        ready, left = scalepool.wait([mine, others])
        return ready == [others] and left == [mine]

    def through_a_task(self, method: str) -> Any:
        return scalepool.get(asks.remote(self.other, method))

    def after(self, value: Any) -> Any:
        return value

    def ask_after(self, method: str) -> Any:
        """The call itself needs what never comes."""
        return scalepool.get(self.other.after.remote(getattr(self.me, method).remote()))

    def in_time(self, method: str, timeout: float) -> Any:
        try:
            return scalepool.get(getattr(self.other, method).remote(), timeout=timeout)
        except TimeoutError:
            return "too late"

    def plain(self) -> str:
        return "plain"

    def count(self) -> Any:
        yield from range(3)

    def ask_back(self) -> Any:
        return self.ask("plain")

    def ask_round(self) -> Any:
        return self.ask("ask_back")


@scalepool.remote
class AsyncWaiter:
    def meet(self, other: Any, me: Any = None) -> None:
        self.other, self.me = other, me

    async def blocks(self, method: str) -> Any:
        return scalepool.get(getattr(self.other, method).remote())

    async def awaits(self, method: str) -> Any:
        return await getattr(self.other, method).remote()

    async def plain(self) -> str:
        return "plain"

    async def ask_back(self) -> Any:
        return scalepool.get(self.other.plain.remote())


@scalepool.remote
def asks(actor: Any, method: str) -> Any:
    return scalepool.get(getattr(actor, method).remote())
