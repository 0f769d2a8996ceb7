"""Notebooks: real kernels, driven by messages as a notebook's front end does it."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("ipykernel", reason="the kernels of notebooks")
pytest.importorskip("jupyter_client", reason="speaks with kernels")

from live.helpers import is_running, wait_for
from live.notebooks import Kernel, Terminal, kernel_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with kernel_in(tmp_path) as kernel:
        yield kernel


def write(kernel: Kernel, module: str, source: str) -> None:
    """Write a module as an editor does. Its time is one that no earlier version had."""
    path = kernel.folder / f"{module}.py"
    before_ns = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(textwrap.dedent(source))
    after_ns = max(path.stat().st_mtime_ns, before_ns + 2_000_000_000)
    os.utime(path, ns=(after_ns, after_ns))


def test_what_cells_define_works_and_may_be_redefined(kernel: Kernel) -> None:
    assert not kernel.run("""
        import dataclasses, enum
        import scalepool
        from scalepool.concurrent.futures import ProcessPoolExecutor
        from scalepool.multiprocessing import Pool
        pool = Pool(2)
        executor = ProcessPoolExecutor(2)
        factor = 2
        def double(x): return factor * x
    """)
    kernel.run("""
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2
        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
            colour: Colour = Colour.RED
            def moved(self, by): return dataclasses.replace(self, x=self.x + double(by))
        class Trouble(Exception):
            def __init__(self, code, *, why): super().__init__(f"{code}: {why}"); self.code = code
        def fail(code): raise Trouble(code, why="so")
        def everywhere(fn, x): return set(pool.map(fn, [x] * 16, 1)) | set(executor.map(fn, [x] * 4))
    """)
    kernel.run("assert everywhere(double, 4) == {8} and pool.map(lambda x: double(x) + 1, range(3)) == [1, 3, 5]")
    kernel.run("assert pool.map(Point(1).moved, [1]) == [Point(3)] and executor.submit(Point, 5).result() == Point(5)")
    kernel.run("assert executor.submit(lambda c: c is Colour.RED, Colour.RED).result()")
    kernel.run("assert pool.apply(lambda: Colour.BLUE) is Colour.BLUE")
    kernel.run("""
        for call in (lambda: pool.apply(fail, (7,)), executor.submit(fail, 7).result):
            try: call()
            except Trouble as error: assert error.code == 7 and error.args == ("7: so",)
            else: raise AssertionError
    """)
    kernel.run("factor = 10\nassert everywhere(double, 4) == {40}")
    kernel.run("def double(x): return 'new', factor * x")
    kernel.run("assert everywhere(double, 4) == everywhere(lambda x: double(x), 4) == {('new', 40)}")
    kernel.run("@dataclasses.dataclass(frozen=True)\nclass Point:\n    x: int\n    def moved(self, by): return 'moved'")
    kernel.run("assert everywhere(Point(1).moved, 1) == {'moved'} and pool.map(Point, [1]) == [Point(1)]")
    kernel.run("""
        import joblib
        with joblib.parallel_config(backend="scalepool"):
            assert joblib.Parallel(2)(joblib.delayed(double)(n) for n in range(2)) == [("new", 0), ("new", 10)]
        @scalepool.remote
        def remotely(x): return double(x)
        @scalepool.remote
        class Counter:
            n = 0
            def add(self, x): self.n += double(x)[1]; return self.n
        assert scalepool.get(remotely.remote(3)) == ("new", 30)
        counter = Counter.remote()
        assert scalepool.get([counter.add.remote(1), counter.add.remote(1)]) == [10, 20]
    """)
    awaiting = kernel.finish_cell(
        kernel.start_cell("async def late(): return scalepool.get(remotely.remote(1))\nawait late()")
    )
    assert "await the reference" in awaiting.err
    assert not awaiting.error
    assert kernel.run("def shout(x): print('task', x)\nlist(executor.map(shout, [1]));").strip() == "task 1"


EDITS = {
    "body": "def shift(x):\n    return 'second', x\n",
    "global": "OFFSET = 5\ndef shift(x):\n    return OFFSET, x\n",
}
FIRST = "OFFSET = 1\ndef shift(x):\n    return OFFSET, x\n"
EXPECTED = {"body": "('second', 1)", "global": "(5, 1)"}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("mode", ["2", "3", "1"])
def test_an_edited_module_that_is_reloaded_by_itself_is_so_in_workers(kernel: Kernel, mode: str, edit: str) -> None:
    write(kernel, "inner", FIRST)
    write(kernel, "outer", "import inner\nfrom inner import shift\ndef use(x): return inner.shift(x)\n")
    kernel.run(f"%load_ext autoreload\n%autoreload {mode}")
    if mode == "1":
        kernel.run("%aimport inner")
    kernel.run("""
        import inner, outer
        from inner import shift
        from scalepool.multiprocessing import Pool
        pool = Pool(2)
        def everywhere(fn): return set(pool.map(fn, [1] * 16, 1))
        def from_cell(x): return inner.shift(x)
        def all_ways(): return everywhere(inner.shift) | everywhere(outer.use) | everywhere(from_cell)
    """)
    assert kernel.run("print(*all_ways())").strip() == "(1, 1)"
    write(kernel, "inner", EDITS[edit])
    here = kernel.run("print(*{inner.shift(1), outer.use(1), from_cell(1)})").strip()
    assert here == EXPECTED[edit]
    assert kernel.run("print(*all_ways())").strip() == here
    assert kernel.run("print(*everywhere(shift))") == kernel.run("print(shift(1))")


@pytest.mark.parametrize("how", ["pool.map(stay, range(8))", "scalepool.get([forever.remote()])", "future.result()"])
def test_an_interrupt_leaves_the_pool_usable(kernel: Kernel, how: str) -> None:
    kernel.run("""
        import time
        import scalepool
        from scalepool.concurrent.futures import ProcessPoolExecutor
        from scalepool.multiprocessing import Pool
        pool, executor = Pool(2), ProcessPoolExecutor(2)
        def stay(n): print("running", flush=True); time.sleep(600)
        forever = scalepool.remote(lambda: stay(0))
        double = scalepool.remote(lambda n: 2 * n)
        def square(n): return n * n
    """)
    cell = kernel.start_cell(f"future = executor.submit(stay, 0)\n{how}" if "future" in how else how)
    kernel.await_output(cell, "running")
    kernel.manager.interrupt_kernel()
    ended = kernel.finish_cell(cell)
    assert ended.error == "KeyboardInterrupt"
    assert not ended.err
    assert kernel.run("print(pool.map(square, range(4)), scalepool.get(double.remote(4)))") == "[0, 1, 4, 9] 8\n"


USES = """
import time
import numpy
import scalepool
from scalepool.multiprocessing import Pool
pool = Pool(2)
kept = scalepool.put(numpy.ones(1 << 20))
def stay(array): open("running", "a").write("running"); time.sleep(600)
result = pool.map_async(stay, [numpy.ones(1 << 20)] * 4)
"""


@pytest.mark.parametrize("how", ["kill", "restart", "restart_now", "shutdown"])
def test_nothing_is_left_of_a_kernel_that_ends(kernel: Kernel, how: str) -> None:
    kernel.run(USES)
    wait_for((kernel.folder / "running").exists)
    before = set(kernel.descendants())
    assert len(before) > 2  # two workers and what makes them
    if how == "kill":
        os.kill(kernel.head_pid, signal.SIGKILL)
    elif how == "shutdown":
        kernel.manager.shutdown_kernel()
    else:
        kernel.restart(now=how == "restart_now")
    wait_for(lambda: not before.intersection(kernel.descendants()), 10.0)
    if "restart" in how:
        (kernel.folder / "running").unlink()
        kernel.run(USES)
        wait_for((kernel.folder / "running").exists)
        assert kernel.run("with Pool(2) as another: print(another.map(abs, [-1]))") == "[1]\n"


@pytest.mark.parametrize("prompt", ["plain", "as_usual"])
def test_ctrl_c_at_a_terminal_gives_the_prompt_back(tmp_path: Path, prompt: str) -> None:
    arguments = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]
    if prompt == "plain":
        arguments.append("--simple-prompt")
    terminal = Terminal(tmp_path, arguments, {"IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "dumb"})
    try:
        terminal.expect(r"In \[1\]: ")
        terminal.type("import time; from scalepool.multiprocessing import Pool; pool = Pool(2)\n")
        terminal.expect(r"In \[2\]: ")
        terminal.type("stay = lambda n: (print(f'round {n}', flush=True), time.sleep(600))\n")
        for number in (3, 5):
            terminal.expect(rf"In \[{number}\]: ")
            terminal.type(f"pool.map(stay, [{number}] * 8)\n")
            terminal.expect(f"round {number}")
            terminal.type("\x03")
            shown = terminal.expect(rf"In \[{number + 1}\]: ")
            assert (shown.count("Traceback"), shown.count("KeyboardInterrupt: ")) == (1, 1), shown
            terminal.type("pool.map(lambda n: n * n, range(4))\n")
            terminal.expect(r"\[0, 1, 4, 9\]")
        terminal.expect(r"In \[7\]: ")
        terminal.type("exit\n")
        wait_for(lambda: not is_running(terminal.head_pid))
    finally:
        terminal.close()
    terminal.assert_nothing_left()
