"""What tasks print shows up where the driver prints, and how their errors look there."""

from __future__ import annotations

import io
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from live import tasks
from live.helpers import run, script, wait_for
from scalepool.api import WorkerGroup
from scalepool.errors import RemoteTraceback

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def speak(number: int) -> None:
    print(f"out {number}")
    print(f"err {number}", file=sys.stderr)
    sys.stdout.write("no newline")
    sys.stdout.flush()
    print()


def test_prints_reach_what_is_stdout_and_stderr_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    group = WorkerGroup(1)
    for number in range(20):
        group.submit(speak, (number,)).result(60)

    assert out.getvalue() == "".join(f"out {number}\nno newline\n" for number in range(20))
    assert err.getvalue() == "".join(f"err {number}\n" for number in range(20))


def speak_much(lines: int) -> None:
    for number in range(lines):
        print("x" * 100, number)


def test_much_output_arrives_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    WorkerGroup(1).submit(speak_much, (20_000,)).result(60)

    assert [line.split()[1] for line in out.getvalue().splitlines()] == [str(number) for number in range(20_000)]


def speak_strangely() -> None:
    print("\ud800 lone surrogate, \x00 nul, \x1b escape, ünïcödé 🐍")


@pytest.mark.parametrize("stream", ["closed", "none", "ascii", "raising"])
def test_a_stream_that_cannot_show_it_loses_output_not_results(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    class Raising(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("disk full")

    closed = io.StringIO()
    closed.close()
    streams = {"closed": closed, "none": None, "ascii": io.TextIOWrapper(io.BytesIO(), "ascii"), "raising": Raising()}
    monkeypatch.setattr(sys, "stdout", streams[stream])
    group = WorkerGroup(1)

    assert group.submit(speak_strangely).result(60) is None
    assert group.submit(tasks.square, (3,)).result(60) == 9


def print_and_wait(path: str) -> None:
    print("before")
    tasks.wait_for_file(path)


def test_output_does_not_wait_for_its_task_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    future = WorkerGroup(1).submit(print_and_wait, (str(tmp_path / "go"),))

    wait_for(lambda: out.getvalue() == "before\n")
    assert not future.done()
    (tmp_path / "go").touch()
    future.result(60)


def print_and_die() -> None:
    print("last words", flush=True)
    tasks.die("kill")


def test_output_of_a_script_goes_to_its_own_streams(tmp_path: Path) -> None:
    source = """
from live import test_output
from scalepool.api import WorkerGroup
group = WorkerGroup(1)
for number in range(3):
    group.submit(test_output.speak, (number,)).result()
"""
    with script(tmp_path, source) as driver:
        out, err = driver.finish()

    assert driver.process.returncode == 0
    assert out == "".join(f"out {number}\nno newline\n" for number in range(3))
    assert err == "".join(f"err {number}\n" for number in range(3))


def test_prints_of_the_last_task_are_not_lost_at_exit(tmp_path: Path) -> None:
    source = """
from live import test_output
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
futures = [group.submit(print, (number,)) for number in range(100)]
group.close()
group.join()
"""
    assert sorted(map(int, run(tmp_path, source).split())) == list(range(100))


class Mine(Exception):
    def __init__(self, first: int, second: str) -> None:
        super().__init__(first, second)
        self.second = second


class Awkward(Exception):
    """Does not survive plain pickling."""

    def __init__(self, first: int, second: str) -> None:
        super().__init__(f"{first}{second}")
        self.first = first


def raise_mine() -> None:
    raise Mine(1, "two")


def raise_awkward() -> None:
    raise Awkward(1, "two")


def test_an_exception_is_the_users_own_with_the_workers_traceback_as_its_cause(group: WorkerGroup) -> None:
    with pytest.raises(Mine) as caught:
        group.submit(raise_mine).result(60)

    assert caught.value.args == (1, "two")
    assert caught.value.second == "two"
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in raise_mine" in str(caught.value.__cause__)
    assert "executor" not in str(caught.value.__cause__)
    assert "in raise_mine" in "".join(traceback.format_exception(caught.value))


def test_an_exception_with_an_awkward_constructor_keeps_its_class(group: WorkerGroup) -> None:
    error = group.submit(raise_awkward).exception(60)

    assert type(error) is Awkward
    assert str(error) == "1two"
    assert error.first == 1


def test_a_chain_of_exceptions_is_in_the_text(group: WorkerGroup) -> None:
    error = group.submit(tasks.fail, ("outer",)).exception(60)

    assert isinstance(error, ValueError)
    assert "KeyError: 'inner'" in str(error.__cause__)
    assert "direct cause" in str(error.__cause__)


def give_an_exception() -> Exception:
    return LookupError("a value")


def test_an_exception_that_is_returned_is_a_value(group: WorkerGroup) -> None:
    found = group.submit(give_an_exception).result(60)

    assert isinstance(found, LookupError)
