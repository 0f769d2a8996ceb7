"""What tasks raise, wherever they run: as its own class, with all that it has, and the worker's traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.helpers import script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

PROGRAM = """
import sys, threading
import scalepool
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool
import joblib
from concurrent.futures.process import BrokenProcessPool

class Mine(Exception):
    def __init__(self, code, *, why):
        super().__init__(f"{code} because {why}")
        self.code, self.why = code, why

class Liar(Mine):
    def __reduce__(self): return (ValueError, ("a lie",))

class Locked(Mine):
    def __init__(self, code, *, why):
        super().__init__(code, why=why)
        self.lock = threading.Lock()

class Leaving(BaseException):
    pass

def odd(n): raise Mine(n, why="odd")
def lying(n): raise Liar(n, why="lying")
def locked(n): raise Locked(n, why="locked")
def chained(n):
    try: odd(n)
    except Mine as error: raise KeyError("outer") from error
def grouped(n): raise ExceptionGroup("several", [Mine(n, why="grouped"), ValueError(n)])
def leaving(n): raise Leaving(n)
def exiting(n): sys.exit(n)
def interrupted(n): raise KeyboardInterrupt

def check(name, error):
    if name == "odd":
        assert type(error) is Mine and (error.code, error.why, str(error)) == (7, "odd", "7 because odd"), repr(error)
    elif name == "lying":
        assert isinstance(error, Mine) and str(error) == "7 because lying", repr(error)
    elif name == "locked":
        assert isinstance(error, Mine) and error.code == 7, repr(error)
    elif name == "chained":
        inner = error.__context__
        assert type(error) is KeyError and type(inner) is Mine and inner.code == 7
    elif name == "grouped":
        assert type(error) is ExceptionGroup and [type(e) for e in error.exceptions] == [Mine, ValueError]
        assert error.exceptions[0].code == 7
    elif name == "leaving":
        assert type(error) is Leaving and error.args == (7,)
    elif name == "exiting":
        assert type(error) is SystemExit and error.code == 7
    elif name == "interrupted":
        assert type(error) is KeyboardInterrupt
    text = str(error.__cause__)
    assert name in text and "Traceback" in text or name == "exiting" and "sys.exit" in text, text

FAILS = [odd, lying, locked, chained, leaving, exiting, interrupted]
if sys.version_info >= (3, 11): FAILS.append(grouped)

def pool():
    with Pool(1) as pool:
        for fail in FAILS:
            yield fail, lambda: pool.apply(fail, (7,))
            yield fail, lambda: pool.map(fail, [7])
            yield fail, lambda: next(pool.imap(fail, [7]))
            yield fail, lambda: list(pool.imap_unordered(fail, [7]))
        assert pool.apply(abs, (-1,)) == 1
def executor():
    with ProcessPoolExecutor(1) as executor:
        for fail in FAILS:
            yield fail, lambda: executor.submit(fail, 7).result()
            yield fail, lambda: list(executor.map(fail, [7]))
        assert executor.submit(abs, -1).result() == 1
def parallel():
    for fail in FAILS:
        yield fail, lambda: joblib.Parallel(2, backend="scalepool")([joblib.delayed(fail)(7)])
def remote():
    @scalepool.remote
    def run(fail): return fail(7)
    @scalepool.remote
    async def arun(fail): return fail(7)
    for fail in FAILS:
        yield fail, lambda: scalepool.get(run.remote(fail))
        yield fail, lambda: scalepool.get(arun.remote(fail))
def stream():
    @scalepool.remote(num_returns="streaming")
    def run(fail):
        yield 1
        fail(7)
    def take(fail):
        items = run.remote(fail)
        assert scalepool.get(next(items)) == 1
        scalepool.get(next(items))
    for fail in FAILS:
        yield fail, lambda: take(fail)
def actor():
    @scalepool.remote
    class Actor:
        def run(self, fail): return fail(7)
        def items(self, fail):
            yield 1
            fail(7)
    @scalepool.remote
    class Async:
        async def run(self, fail): return fail(7)
    one, two = Actor.remote(), Async.remote()
    for fail in FAILS:
        yield fail, lambda: scalepool.get(one.run.remote(fail))
        yield fail, lambda: scalepool.get(two.run.remote(fail))
        def take():
            items = one.items.options(num_returns="streaming").remote(fail)
            assert scalepool.get(next(items)) == 1
            scalepool.get(next(items))
        yield fail, take
def constructor():
    @scalepool.remote
    class Actor:
        def __init__(self, fail): fail(7)
        def run(self): return 1
    for fail in FAILS:
        yield fail, lambda: cause_of(scalepool.ActorDiedError, lambda: scalepool.get(Actor.remote(fail).run.remote()))

def initializer():
    for fail in FAILS:
        def pool():
            with Pool(1, fail, (7,)) as pool: pool.apply(abs, (1,))
        def executor():
            with ProcessPoolExecutor(1, initializer=fail, initargs=(7,)) as executor: executor.submit(abs, 1).result()
        yield fail, lambda: cause_of(RuntimeError, pool)
        yield fail, lambda: cause_of(BrokenProcessPool, executor)

def cause_of(kind, call):
    try: call()
    except kind as error: cause = error.__cause__
    raise cause.with_traceback(None) from cause.__cause__

for fail, call in globals()[sys.argv[1]]():
    try: call()
    except BaseException as error: check(fail.__name__, error)
    else: raise AssertionError(fail)
print("end")
"""

WAYS = ["pool", "executor", "parallel", "remote", "stream", "actor", "constructor", "initializer"]


@pytest.mark.parametrize("way", WAYS)
def test_an_error_arrives_as_it_was_raised(tmp_path: Path, way: str) -> None:
    with script(tmp_path, PROGRAM.replace("sys.argv[1]", repr(way))) as driver:
        out, err = driver.finish()
    assert (driver.process.returncode, out) == (0, "end\n"), err
    if way != "initializer":  # whose executors log what it raised, as the original does
        assert not err
