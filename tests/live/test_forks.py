"""The user's process forks: the child gets a session of its own or a clear error, the parent is unharmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.helpers import run, script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.live,
    # From 3.12 on CPython warns of any fork beside a second thread; the drivers here fork on purpose.
]
ENVIRON = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
PRELUDE = """
import os, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from live import tasks
from scalepool import api
from scalepool.api import WorkerGroup
from scalepool.errors import SessionError
group = WorkerGroup(2)
assert group.submit(tasks.square, (3,)).result(60) == 9

def in_child(work, leave=os._exit):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(9)
        leave(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""


def test_a_child_may_start_a_session_of_its_own(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
def work():
    assert not api.is_initialized()
    mine = WorkerGroup(2)
    assert [mine.submit(tasks.square, (n,)).result(60) for n in range(5)] == [0, 1, 4, 9, 16]
    api.shutdown()
for leave in (os._exit, sys.exit):
    in_child(work, leave)
    assert group.submit(tasks.square, (4,)).result(60) == 16
print("parent", len(group.workers()) >= 1)
"""
    assert run(tmp_path, source) == "parent True\n"


def test_what_a_child_inherited_says_so_and_does_no_harm(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
pending = [group.submit(time.sleep, (0.3,)) for _ in range(4)]
def work():
    for attempt in (
        lambda: group.submit(tasks.square, (1,)),
        lambda: pending[0].result(5),
        lambda: pending[0].exception(5),
    ):
        try:
            attempt()
        except SessionError:
            pass
        else:
            raise AssertionError("no error")
    assert pending[1].cancel() is False
    group.close()
    group.terminate()
    assert group.join(5)
in_child(work)
assert [future.result(60) for future in pending] == [None] * 4
assert group.submit(tasks.square, (4,)).result(60) == 16
print("parent")
"""
    assert run(tmp_path, source) == "parent\n"


def test_a_fork_while_another_thread_waits(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
import threading
future = group.submit(time.sleep, (1.0,))
waiting = threading.Thread(target=future.result)
waiting.start()
def work():
    try:
        future.result(5)
    except SessionError:
        pass
    assert WorkerGroup(1).submit(tasks.square, (2,)).result(60) == 4
    api.shutdown()
for _ in range(5):
    in_child(work)
waiting.join()
print("parent", future.done())
"""
    assert run(tmp_path, source) == "parent True\n"


def test_a_fork_while_the_helper_pumps(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
future = group.submit(time.sleep, (0.5,), on_done=lambda future: None)
def work():
    try:
        future.result(5)
    except SessionError:
        return
    raise AssertionError
while not future.done():
    in_child(work) if not future.done() else None
    time.sleep(0.01)
print("parent")
"""
    assert "parent\n" in run(tmp_path, source.replace("    raise AssertionError\n", "    assert future.done()\n"))


def test_a_child_that_ends_normally_leaves_the_session_of_its_parent_alone(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
buffer = api.put_buffer(b"x" * 1_000_000)
in_child(lambda: None, sys.exit)
in_child(lambda: api.shutdown(), sys.exit)
assert bytes(memoryview(buffer.open())[:1]) == b"x"
assert group.submit(len, (bytes(500_000),)).result(60) == 500_000
print("parent")
"""
    assert run(tmp_path, source) == "parent\n"


def test_a_task_may_fork(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
def forking():
    import os
    pid = os.fork()
    if not pid:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def with_multiprocessing():
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
    process.start()
    process.join()
    return process.exitcode
for _ in range(5):
    assert group.submit(forking).result(60) == 7
    assert group.submit(with_multiprocessing).result(60) == 0
print("parent")
"""
    assert "parent\n" in run(tmp_path, source)


@pytest.mark.parametrize("way", ["return number", "raise ValueError", "sys.exit()"])
def test_a_child_that_leaves_its_task_ends_and_is_told_so_in_one_line(tmp_path: Path, way: str) -> None:
    source = f"""
    import os
    import sys
    from scalepool.multiprocessing import Pool

    def fork_and_return(number):
        child = os.fork()
        if not child:
            {way}
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        return number

    if __name__ == "__main__":
        with Pool(2) as pool:
            assert pool.map(fork_and_return, range(4), chunksize=1) == [0, 1, 2, 3]
            assert pool.map(abs, range(-4, 0)) == [4, 3, 2, 1]
    """
    with script(tmp_path, source) as running:
        out, err = running.finish()
        assert (running.process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    assert "should end by os._exit" in err


def test_a_forked_child_keeps_the_results_that_its_parent_drops(tmp_path: Path) -> None:
    source = """
import os
import numpy as np
from scalepool.multiprocessing import Pool
def make(value):
    return np.full(1_000_000, float(value))
if __name__ == "__main__":
    with Pool(1) as pool:
        array = pool.apply(make, (7,))
        (wait, go), (answer, tell) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.read(wait, 1)
            os.write(tell, str(set(array.tolist())).encode())
            os._exit(0)
        del array
        for value in range(20):
            pool.apply(make, (value,))
        os.write(go, b"x")
        print(os.read(answer, 1000).decode())
        os.wait()
"""
    assert run(tmp_path, source) == "{7.0}\n"
