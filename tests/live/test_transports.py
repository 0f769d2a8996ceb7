"""The same work over each kind of link: small and large messages, many of them, and a worker that dies in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.helpers import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

JOB = """
import os, signal, sys
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.concurrent.futures.process import BrokenProcessPool
from scalepool.multiprocessing import Pool

def negative(x): return -x
def twice(text): return text + text
def die(x): os.kill(os.getpid(), signal.SIGKILL)

with Pool(2) as pool:
    assert pool.map(negative, range(50_000), chunksize=1) == [-x for x in range(50_000)]
    assert [pool.apply(negative, (x,)) for x in range(50)] == [-x for x in range(50)]
    # Messages of many megabytes each way, of parts that are just small enough to travel inside them.
    texts = [str(number) * 10_000 for number in range(10_000, 10_400)]
    assert list(pool.imap(twice, texts)) == [text + text for text in texts]
    several = [pool.apply_async(twice, (text,)) for text in texts]
    assert [one.get() for one in several] == [text + text for text in texts]
with ProcessPoolExecutor(2) as executor:
    doomed = executor.submit(die, 0)
    assert list(executor.map(negative, range(1000))) == [-x for x in range(1000)]
    assert isinstance(doomed.exception(), BrokenProcessPool)
print("zmq" in sys.modules)
"""


@pytest.mark.parametrize(("transport", "loads_zeromq"), [("unix", False), ("ipc", True)])
def test_a_day_of_work(tmp_path: Path, transport: str, loads_zeromq: bool) -> None:
    assert run(tmp_path, JOB, environ={"SCALEPOOL_TRANSPORT": transport}) == f"{loads_zeromq}\n"
