"""Actor classes that workers can import."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import scalepool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@scalepool.remote
class Reflecting:
    own: Any = None

    def keep(self, own: Any) -> int:
        self.own = own
        return os.getpid()

    def me(self) -> Any:
        time.sleep(0.5)
        return self.own

    def pid(self) -> int:
        return os.getpid()


@scalepool.remote
class Counter:
    step = 1

    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, by: int = 1) -> int:
        self.n += by
        return self.n

    def value(self) -> int:
        return self.n

    def pid(self) -> int:
        return os.getpid()

    def add_after(self, wait_s: float, by: int) -> int:
        pending = scalepool.remote(time.sleep).remote(wait_s)
        scalepool.wait([pending], timeout=wait_s / 4)
        return self.add(by)

    def fail(self, text: str) -> None:
        raise KeyError(text)

    @scalepool.method(num_returns=2)
    def two(self) -> tuple[int, str]:
        return self.n, "two"

    @property
    def double(self) -> int:
        return self.n * 2

    @staticmethod
    def static(x: int) -> int:
        return x + 1

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    def die(self, how: int = signal.SIGKILL) -> None:
        os.kill(os.getpid(), how)
        time.sleep(60)

    def leave(self) -> None:
        scalepool.exit_actor()

    def slow(self, seconds: float) -> int:
        time.sleep(seconds)
        return self.add()

    def wait_for(self, path: Path) -> int:
        path.with_suffix(".started").touch()
        while not path.exists():
            time.sleep(0.005)
        return self.add()


class Base:
    def hello(self) -> str:
        return f"hello from {type(self).__name__}"


@scalepool.remote
class Derived(Base):
    __slots__ = ("x",)

    def __init__(self) -> None:
        super().__init__()
        self.x = 7

    def get(self) -> int:
        return self.x


class Grandchild(Derived):  # type: ignore[valid-type,misc]  # an actor class as a base is the class itself
    def twice(self) -> int:
        return 2 * self.get()


@scalepool.remote
@dataclass
class Point:
    x: int
    y: int = 0

    def total(self) -> int:
        return self.x + self.y


@scalepool.remote
class Broken:
    def __init__(self, why: str) -> None:
        raise ValueError(why)

    def method(self) -> None: ...


@scalepool.remote(max_restarts=2, max_task_retries=1)
class Restarting:
    def __init__(self, folder: Path, base: Any) -> None:
        self.folder = folder
        self.base = base
        with (folder / "lives").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def lives(self) -> int:
        return len((self.folder / "lives").read_text().splitlines())

    def add(self, x: int) -> Any:
        return self.base + x

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def die_once(self) -> int:
        if self.lives() == 1:
            self.die()
        return self.lives()


@scalepool.remote
class Keeper:
    """Holds what it is given, and calls it."""

    def __init__(self, other: Any = None) -> None:
        self.other = other

    def keep(self, box: list[Any]) -> None:
        self.other = box[0]

    def call(self, by: int) -> int:
        return scalepool.get(self.other.add.remote(by))  # type: ignore[no-any-return]

    def make(self, start: int) -> Any:
        return Counter.remote(start)

    def drop(self) -> None:
        self.other = None

    def tasks(self, n: int) -> int:
        return sum(scalepool.get([plus_one.remote(x) for x in range(n)]))


@scalepool.remote
def plus_one(x: int) -> int:
    return x + 1


@scalepool.remote
def bump(handle: Any, times: int) -> int:
    return int(scalepool.get([handle.add.remote() for _ in range(times)])[-1])


@scalepool.remote(max_concurrency=3)
class Threads:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(3)

    def meet(self) -> str:
        self.barrier.wait(60)
        return threading.current_thread().name

    def fail(self) -> None:
        raise KeyError("thread")


@scalepool.remote
class Async:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.running = 0
        self.most = 0

    async def wait(self) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.event.wait()
        self.running -= 1
        return self.most

    async def open(self) -> None:
        self.event.set()

    async def add(self, ref: list[Any], by: int) -> int:
        return await ref[0] + by  # type: ignore[no-any-return]

    def plain(self) -> bool:
        return asyncio.get_running_loop() is self.loop

    async def fail(self) -> None:
        raise KeyError("async")

    async def leave(self) -> None:
        scalepool.exit_actor()


@scalepool.remote(concurrency_groups={"io": 2})
class Grouped:
    def __init__(self) -> None:
        self.event = threading.Event()

    @scalepool.method(concurrency_group="io")
    def wait(self) -> bool:
        return self.event.wait(60)

    def open(self) -> None:
        self.event.set()

    def where(self) -> str:
        return threading.current_thread().name


@scalepool.remote
class Yielder:
    def __init__(self) -> None:
        self.dropped: list[int] = []

    def numbers(self, n: int) -> Iterator[int]:
        for number in range(n):
            self.dropped.append(number)
            yield number

    @scalepool.method(num_returns=0)
    def quiet(self, x: int) -> None:
        self.dropped.append(x)

    @scalepool.method(num_returns="dynamic")
    def several(self, n: int) -> Iterator[int]:
        yield from range(n)

    def bad(self) -> Iterator[int]:
        yield 1
        raise KeyError("bad")

    def seen(self) -> list[int]:
        return self.dropped


@scalepool.remote
class AsyncYielder:
    def __init__(self) -> None:
        self.dropped: list[int] = []

    async def numbers(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            self.dropped.append(number)
            yield number
            await asyncio.sleep(0)

    def plain(self, n: int) -> Iterator[int]:
        yield from range(n)

    @scalepool.method(num_returns=0)
    async def quiet(self, x: int) -> None:
        self.dropped.append(x)

    @scalepool.method(num_returns="dynamic")
    async def several(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def bad(self) -> AsyncIterator[int]:
        yield 1
        raise KeyError("bad")

    async def seen(self) -> list[int]:
        return self.dropped

    async def sleep(self, path: Path) -> None:
        path.touch()  # noqa: ASYNC240 - it takes no time
        try:
            await asyncio.sleep(600)
        finally:
            path.unlink()  # noqa: ASYNC240


@scalepool.remote
class Selfish:
    def __init__(self, gone: Path | None = None) -> None:
        self.gone = gone

    def set(self, box: list[Any]) -> None:
        self.me = box[0]

    def one(self) -> int:
        return 1

    def wait(self) -> int:
        return int(scalepool.get(self.me.one.remote()))

    def later(self) -> Any:
        return self.me.one.remote()

    def __del__(self) -> None:
        if self.gone is not None:
            self.gone.touch()
