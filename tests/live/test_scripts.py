"""Scripts as people write them: no guard, functions in ``__main__``, lambdas, standard input, -c."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from live.helpers import Script, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

SOURCE = """
import enum, functools, os
from scalepool.api import WorkerGroup

print("module level", flush=True)
counter = 10

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(self) is type(other) and self.x == other.x
    def __hash__(self): return hash(self.x)
    def moved(self, by): return Point(self.x + by)

class Trouble(Exception):
    pass

def double(x): return 2 * x
def helper_of_helper(x): return double(x) + counter
def swap(colour): return Colour.RED if colour is Colour.BLUE else Colour.BLUE
def raise_trouble(): raise Trouble("mine")
def make_adder(n): return lambda x: x + n

group = WorkerGroup(2)

def call(fn, *args): return group.submit(fn, args).result(60)

assert call(double, 4) == 8
assert call(helper_of_helper, 4) == 18
assert call(lambda x: x * 3, 5) == 15
assert call(make_adder(7), 1) == 8
assert call(functools.partial(double), 3) == 6
assert call(Point(1).moved, 2) == Point(3)
assert isinstance(call(Point, 5), Point)
assert call(swap, Colour.RED) is Colour.BLUE
assert call(lambda p: p == Point(9), Point(9)) is True
assert {call(Point, 1), call(Point, 1)} == {Point(1)}
try:
    call(raise_trouble)
except Trouble as error:
    assert error.args == ("mine",) and "raise_trouble" in str(error.__cause__)
else:
    raise AssertionError
counter = 20  # what a global has become is seen by the next call
assert call(helper_of_helper, 4) == 28

def double(x): return 200 * x  # redefined, as in a notebook's cell
assert call(double, 4) == 800
assert call(helper_of_helper, 1) == 220
print("end", os.getpid() > 0)
"""


def test_an_unguarded_script_runs_once_and_works(tmp_path: Path) -> None:
    assert run(tmp_path, SOURCE) == "module level\nend True\n"


@pytest.mark.parametrize("way", ["stdin", "command"])
def test_a_program_without_a_file_works_too(tmp_path: Path, way: str) -> None:
    driver = Script(tmp_path, ["-"] if way == "stdin" else ["-c", SOURCE])
    try:
        out, err = driver.finish(SOURCE if way == "stdin" else None)
    finally:
        driver.close()

    assert (driver.process.returncode, out, err) == (0, "module level\nend True\n", "")
    driver.assert_nothing_left()


def test_a_guarded_script_works_as_ever(tmp_path: Path) -> None:
    lines = textwrap.indent("group = WorkerGroup(2)\nprint(group.submit(double, (4,)).result())", "    ")
    source = (
        "from scalepool.api import WorkerGroup\ndef double(x):\n    return 2 * x\n"
        f"if __name__ == '__main__':\n{lines}\n"
    )
    assert run(tmp_path, source) == "8\n"


def test_a_package_run_as_main_works(tmp_path: Path) -> None:
    package = tmp_path / "live_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("def triple(x):\n    return 3 * x\n")
    (package / "__main__.py").write_text(
        "from live_package.part import triple\nfrom scalepool.api import WorkerGroup\n"
        "def both(x):\n    return triple(x) + 1\n"
        "print(WorkerGroup(2).submit(both, (5,)).result())\n"
    )
    driver = Script(tmp_path, ["-m", "live_package"])
    try:
        assert driver.finish() == ("16\n", "")
    finally:
        driver.close()
    driver.assert_nothing_left()


def test_a_group_made_while_a_module_is_imported_works(tmp_path: Path) -> None:
    (tmp_path / "live_eager.py").write_text(
        "from scalepool.api import WorkerGroup\nimport math\n"
        "result = WorkerGroup(2).submit(math.factorial, (5,)).result()\n"
    )
    assert run(tmp_path, "import live_eager\nprint(live_eager.result)\n") == "120\n"


def test_an_initializer_of_main_sets_globals_that_tasks_see(tmp_path: Path) -> None:
    source = """
from scalepool.api import WorkerGroup
model = None
def load(value):
    global model
    model = value
def use(x):
    global model
    model += x
    return model
group = WorkerGroup(1, initializer=load, initargs=(100,))
print([group.submit(use, (1,)).result() for _ in range(4)], model)
"""
    assert run(tmp_path, source) == "[101, 102, 103, 104] None\n"


def test_optimised_and_isolated_interpreters_work(tmp_path: Path) -> None:
    source = (
        "import math\nfrom scalepool.api import WorkerGroup\nprint(WorkerGroup(1).submit(math.sqrt, (9,)).result())"
    )
    for flags in (["-O"], ["-OO"], ["-X", "dev"], ["-u"]):
        driver = Script(tmp_path, [*flags, "-c", source])
        try:
            assert driver.finish() == ("3.0\n", ""), flags
        finally:
            driver.close()
        driver.assert_nothing_left()


def test_a_driver_without_standard_streams_works(tmp_path: Path) -> None:
    source = """
import os, sys
answer = os.dup(1)
for fd in (0, 1, 2): os.close(fd)
sys.stdin = sys.stdout = sys.stderr = None
from live import tasks
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
found = [group.submit(tasks.square, (n,)).result(60) for n in range(5)]
group.submit(print, ("into the void",)).result(60)
os.write(answer, repr(found).encode())
"""
    assert run(tmp_path, source) == "[0, 1, 4, 9, 16]"
