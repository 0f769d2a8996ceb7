"""Memory beyond what was asked for is refused, in a process of its own: the limit is the process's."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import pytest

from scalepool._runtime.allowance import Limited, writable_bytes

pytestmark = pytest.mark.skipif(not writable_bytes(), reason="the system does not tell how much memory there is")


def run(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_a_function_may_have_what_it_asked_for() -> None:
    source = """
        import resource
        from scalepool._runtime.allowance import Limited
        before = resource.getrlimit(resource.RLIMIT_DATA)
        call = Limited(lambda size: len(bytearray(size)), 100_000_000, "reads")
        print(call(50_000_000))
        try:
            call(200_000_000)
        except MemoryError as error:
            print(error)
        print(call(50_000_000), resource.getrlimit(resource.RLIMIT_DATA) == before)
    """
    said = "reads needs more than the 100 MB that it asked for with memory="
    assert run(source) == f"50000000\n{said}\n50000000 True\n"


def test_what_the_error_was_is_told() -> None:
    source = """
        import numpy
        from scalepool._runtime.allowance import Limited
        try:
            Limited(numpy.ones, 100_000_000, "reads")(100_000_000)
        except MemoryError as error:
            print(error, type(error.__cause__).__name__)
    """
    assert "memory=: Unable to allocate 763. MiB" in run(source)


def test_shared_mappings_do_not_count() -> None:
    source = """
        import mmap, os
        from scalepool._runtime.allowance import allowance
        with allowance(100_000_000):
            shared = mmap.mmap(-1, 400_000_000)  # MAP_SHARED
            shared[::4096] = bytes(len(range(0, 400_000_000, 4096)))
            print(len(shared))
    """
    assert run(source) == "400000000\n"


def test_a_limit_that_is_lower_already_stays() -> None:
    source = """
        import resource
        from scalepool._runtime.allowance import allowance, writable_bytes
        low = writable_bytes() + 50_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (low, resource.RLIM_INFINITY))
        with allowance(1_000_000_000):
            print(resource.getrlimit(resource.RLIMIT_DATA)[0] == low)
    """
    assert run(source) == "True\n"


def test_generators_and_coroutines_are_limited_while_they_run() -> None:
    source = """
        import asyncio
        from scalepool._runtime.allowance import Limited

        def steps(size):
            yield len(bytearray(50_000_000))
            yield len(bytearray(size))

        async def later(size):
            return len(bytearray(size))

        async def async_steps(size):
            yield len(bytearray(50_000_000))
            yield len(bytearray(size))

        async def collect(made):
            return [one async for one in made]

        pairs = [(steps, list), (later, asyncio.run), (async_steps, lambda made: asyncio.run(collect(made)))]
        for function, use in pairs:
            call = Limited(function, 100_000_000, function.__name__)
            print(use(call(50_000_000)))
            try:
                use(call(200_000_000))
            except MemoryError as error:
                print(error)
    """
    said = [line for name in ("steps", "later", "async_steps") for line in said_of(name)]
    assert run(source).splitlines() == said


def said_of(name: str) -> list[str]:
    value = "50000000" if name == "later" else "[50000000, 50000000]"
    return [value, f"{name} needs more than the 100 MB that it asked for with memory="]


def test_it_travels() -> None:
    call = pickle.loads(pickle.dumps(Limited(len, 1 << 40, "len")))
    assert (call.fn, call.limit_bytes, call.name) == (len, 1 << 40, "len")
    assert call("four") == 4
