"""A handler that raises at any moment of any call: the call raises that, and everything goes on; nothing is leaked.

A few seeds run always; ``SCALEPOOL_SEEDS=200`` runs so many.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from live.helpers import script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

SEEDS = int(os.environ.get("SCALEPOOL_SEEDS", "56"))
#: Descriptors come and go with what the store keeps for reuse; what is leaked with each call would be far more.
FDS = 40

# ruff: noqa: E501 - one move per line
PROGRAM = """
import gc, os, random, signal, sys
import scalepool, scalepool.errors
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor

class Stop(Exception):
    pass
def square(n): return n * n
def big(n): return bytes(200_000)
def stream(n):
    for i in range(n): yield i
class Actor:
    def __init__(self): self.n = 0
    def add(self, n): self.n += n; return self.n
remote_square = scalepool.remote(square); remote_big = scalepool.remote(big); remote_stream = scalepool.remote(stream); RA = scalepool.remote(Actor)
seed0, count = int(sys.argv[1]), int(sys.argv[2])
actor = RA.remote()
pool = Pool(2)
state = {"armed": False, "kind": KeyboardInterrupt}
def handler(*_):
    if state["armed"]:
        state["armed"] = False
        raise state["kind"]
signal.signal(signal.SIGALRM, handler)
def moves():
    return {
     "map": lambda: pool.map(square, range(50)),
     "apply": lambda: [pool.apply(square, (n,)) for n in range(5)],
     "imap": lambda: list(pool.imap(square, range(40))),
     "big": lambda: pool.map(big, range(6), 1),
     "put": lambda: [scalepool.get(scalepool.put(bytes(300_000))) for _ in range(4)],
     "get": lambda: scalepool.get([remote_square.remote(n) for n in range(30)]),
     "bigget": lambda: scalepool.get([remote_big.remote(n) for n in range(6)]),
     "wait": lambda: scalepool.wait([remote_square.remote(n) for n in range(30)], num_returns=30),
     "actor": lambda: scalepool.get([actor.add.remote(0) for _ in range(30)]),
     "newactor": lambda: scalepool.get(RA.remote().add.remote(1)),
     "stream": lambda: [scalepool.get(ref) for ref in remote_stream.options(num_returns="streaming").remote(20)],
     "pools": lambda: Pool(2).map(square, range(10)),
     "close": lambda: close(),
     "executor": lambda: executor(),
    }
def close():
    with Pool(1) as mine: mine.apply(square, (1,)); mine.close(); mine.join()
def executor():
    with ProcessPoolExecutor(2) as e: list(e.map(square, range(20)))
names = list(moves())
def fds(): return len(os.listdir("/proc/self/fd"))
caught = 0
marks = []
for seed in range(seed0, seed0 + count):
    rng = random.Random(seed)
    name = names[seed % len(names)]
    state["kind"] = rng.choice([KeyboardInterrupt, Stop])
    try:
        state["armed"] = True
        signal.setitimer(signal.ITIMER_REAL, rng.choice([0.0002, 0.001, 0.004, 0.015]) * (0.1 + rng.random()))
        moves()[name]()
    except (KeyboardInterrupt, Stop):
        caught += 1
    except scalepool.errors.SerializationError as error:  # raised while an argument was pickled
        assert isinstance(error.__cause__, Stop), error
        caught += 1
    finally:
        state["armed"] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert scalepool.get(remote_square.remote(3), timeout=30) == 9
        assert scalepool.get(actor.add.remote(0), timeout=30) == 0
        assert len(scalepool.get(remote_big.remote(1), timeout=30)) == 200_000
    except BaseException as e:
        print("seed", seed, name, state["kind"], repr(e), flush=True); raise
    if seed - seed0 in (count // 3, count - 1): gc.collect(); marks.append(fds())
print(caught, *marks)
"""


@pytest.mark.timeout(600)
def test_calls_that_are_interrupted_at_random_moments_leave_everything_usable(tmp_path: Path) -> None:
    source = PROGRAM.replace("int(sys.argv[1]), int(sys.argv[2])", f"0, {SEEDS}")
    # What a handler raises in a finalizer is reported by the interpreter itself, wherever that belongs.
    with script(tmp_path, source, environ={"PYTHONWARNINGS": "ignore"}) as driver:
        out, err = driver.finish()

    assert driver.process.returncode == 0, out + err
    caught, early, late = map(int, out.split())
    assert caught > SEEDS // 5
    assert late < early + FDS
