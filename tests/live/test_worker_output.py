"""What workers log goes to the driver's handlers; what they print is shown, folded, captured or dropped."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from live import tasks
from live.helpers import run, script, wait_for
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.live

NAME = "live.worker.output"


class Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def handler() -> Iterator[Keep]:
    handler, log = Keep(), logging.getLogger(NAME)
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def say(item: int) -> int:
    log = logging.getLogger(f"{NAME}.below")
    log.debug("debug %d", item)
    log.info("info %d", item)
    log.warning("warning %d", item)
    return os.getpid()


def test_records_are_there_with_their_results_at_the_levels_of_the_driver(handler: Keep) -> None:
    log = logging.getLogger(NAME)
    for level, expected in ((logging.INFO, ["info 3", "warning 3"]), (logging.WARNING, ["warning 3"])):
        log.setLevel(level)
        with Pool(1) as pool:
            pid = pool.apply(say, (3,))
        assert [record.getMessage() for record in handler.records] == expected
        assert {(record.process, record.processName != "MainProcess") for record in handler.records} == {(pid, True)}
        handler.records.clear()


def level_of(name: str) -> int:
    return logging.getLogger(name).getEffectiveLevel()


def test_what_would_be_dropped_does_not_travel(handler: Keep) -> None:
    logging.getLogger(NAME).setLevel(logging.ERROR)
    with Pool(1) as pool, ProcessPoolExecutor(1, initializer=os.getpid) as executor:
        assert pool.apply(level_of, (f"{NAME}.below",)) == logging.ERROR
        assert executor.submit(level_of, f"{NAME}.below").result(60) == logging.ERROR
        logging.getLogger(NAME).setLevel(logging.NOTSET)
        with Pool(1) as other:
            assert other.apply(level_of, (NAME,)) == logging.getLogger().level


def set_up_own_handler(path: str) -> None:
    logging.basicConfig(filename=path, format="own %(message)s")


def test_a_handler_that_the_initializer_installed_has_it_alone(handler: Keep, tmp_path: Path) -> None:
    path = tmp_path / "own.log"
    with Pool(1, set_up_own_handler, (str(path),)) as pool:
        pool.apply(say, (5,))

    assert path.read_text() == "own warning 5\n"
    assert not handler.records


def log_an_error() -> None:
    try:
        tasks.fail("inner")
    except ValueError:
        logging.getLogger(NAME).exception("failed with %r", object())


def test_an_exception_is_logged_with_its_traceback(handler: Keep) -> None:
    with Pool(1) as pool:
        pool.apply(log_an_error)
    (record,) = handler.records

    assert record.getMessage().startswith("failed with <object object")
    assert "in log_an_error" in logging.Formatter().format(record)


def test_without_any_handler_it_looks_as_in_the_driver(tmp_path: Path) -> None:
    source = """
    from live.test_worker_output import say
    from scalepool.multiprocessing import Pool
    with Pool(1) as pool:
        pool.apply(say, (1,))
    """
    with script(tmp_path, source) as driver:
        assert driver.finish() == ("", "warning 1\n")


# ---- folding ----


def shout(times: int) -> None:
    for _ in range(times):
        print("danger", file=sys.stderr)
        print("data")


def test_a_flood_on_stderr_is_counted_and_data_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with Pool(2) as pool:
        pool.map(shout, [100] * 10, 1)
        wait_for(lambda: "... repeated" in err.getvalue())

    def counted() -> int:
        lines = err.getvalue().splitlines()
        return sum(1 if line == "danger" else int(line.split()[2]) for line in lines)

    with Pool(1) as pool:  # somebody must be there to count
        wait_for(lambda: counted() == 1000)
    assert out.getvalue() == "data\n" * 1000
    assert len(err.getvalue().splitlines()) < 100


SHOUT = """
from live.test_worker_output import say, shout
from scalepool.multiprocessing import Pool
with Pool(2) as pool:
    pool.map(shout, [10] * 2, 1)
    pool.apply(say, (1,))
"""


@pytest.mark.parametrize(
    ("mode", "out", "err"),
    [
        ("plain", "data\n" * 20, "danger\n" * 20 + "warning 1\n"),
        ("off", "", ""),
        ("", "data\n" * 20, "danger\n" * 3 + "warning 1\n... repeated 17 times: danger\n"),
        ("fold", "data\n" * 3 + "... repeated 17 times: data\n", None),
    ],
)
def test_one_switch(tmp_path: Path, mode: str, out: str, err: str | None) -> None:
    with script(tmp_path, SHOUT, environ={"SCALEPOOL_WORKER_OUTPUT": mode}) as driver:
        printed = driver.finish()

    if "repeated" in out or "repeated" in (err or ""):  # on a slow machine it may be counted in between
        count = sum(1 if "repeated" not in line else int(line.split()[2]) for line in printed[0].splitlines())
        assert count == 20
    else:
        assert printed == (out, err)


# ---- capturing ----


def speak(item: int) -> int:
    print("out", item)
    print("err", item, file=sys.stderr)
    sys.stdout.write("rest")
    if item < 0:
        raise ValueError(item)
    return item


def spoken(item: int) -> str:
    return f"out {item}\nerr {item}\nrest"


@pytest.mark.parametrize("make", [Pool, ProcessPoolExecutor])
def test_each_call_has_its_own_output(make: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    with make(2, capture_output=True) as pool:
        submit = pool.submit if make is ProcessPoolExecutor else lambda fn, item: pool.apply_async(fn, (item,))
        calls = [submit(speak, item) for item in range(-1, 20)]
        for item, call in zip(range(20), calls[1:], strict=True):
            assert (call.result(60) if make is ProcessPoolExecutor else call.get(60)) == item
            assert call.output == spoken(item)
        with pytest.raises(ValueError, match="-1"):
            calls[0].result(60) if make is ProcessPoolExecutor else calls[0].get(60)
        assert calls[0].output == spoken(-1)
        assert submit(abs, 1).output == ""

    assert capfd.readouterr() == ("", "")


def test_a_map_has_the_output_of_its_chunks_in_input_order() -> None:
    with Pool(2, capture_output=True) as pool:
        for result in (
            pool.map_async(speak, range(30), 7),
            pool.starmap_async(speak, [(item,) for item in range(30)]),
            pool.apply_async(speak, (1,), callback=lambda _: None),
        ):
            result.get(60)
            number = 1 if "Callback" in type(result).__name__ else 30
            assert result.output == "".join(spoken(item) for item in (range(30) if number == 30 else [1]))


def test_it_is_there_while_the_task_runs_and_when_its_worker_dies(tmp_path: Path) -> None:
    with Pool(1, capture_output=True) as pool:
        call = pool.apply_async(print_and_die, (str(tmp_path / "go"),))
        wait_for(lambda: call.output == "last words\n")
        assert not call.ready()
        (tmp_path / "go").touch()
        call.wait(60)
        assert not call.successful()
        assert call.output == "last words\n"


def print_and_die(path: str) -> None:
    print("last words")
    tasks.wait_for_file(path)
    os._exit(1)


def nest() -> str | None:
    print("before")
    with Pool(1, capture_output=True) as captured, Pool(1) as shown:
        shown.apply(speak, (1,))
        call = captured.apply_async(speak, (2,))
        call.get(60)
    print("after")
    return call.output


def test_inside_of_a_task(capfd: pytest.CaptureFixture[str]) -> None:
    with Pool(2, capture_output=True) as pool:
        call = pool.apply_async(nest)
        assert call.get(60) == spoken(2)
        assert call.output == "before\nafter\n"

    out, err = capfd.readouterr()
    assert (out, err) == ("out 1\nrest", "err 1\n")


def test_without_capturing_there_is_none() -> None:
    with Pool(1) as pool, ProcessPoolExecutor(1) as executor:
        assert pool.apply_async(abs, (1,)).output is None
        assert pool.map_async(abs, [1]).output is None
        assert executor.submit(abs, 1).output is None  # type: ignore[attr-defined]


def test_captured_output_is_there_when_nothing_is_shown(tmp_path: Path) -> None:
    source = """
    from live.test_worker_output import speak
    from scalepool.multiprocessing import Pool
    with Pool(1, capture_output=True) as pool, Pool(1) as shown:
        call = pool.apply_async(speak, (1,))
        shown.apply(speak, (2,))
        call.get(60)
        print(repr(call.output))
    """
    printed = run(tmp_path, source, environ={"SCALEPOOL_WORKER_OUTPUT": "off"})
    assert printed == repr(spoken(1)) + "\n"
