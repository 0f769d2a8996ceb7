"""What C code, child processes and crashes write to the descriptors 1 and 2 of a worker is treated like its prints."""

from __future__ import annotations

import ctypes
import io
import multiprocessing
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from live import tasks
from live.helpers import run, script, wait_for
from scalepool.errors import WorkerDiedError
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.live


def listen(monkeypatch: pytest.MonkeyPatch) -> tuple[io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def puts(text: str) -> None:
    ctypes.CDLL(None).puts(text.encode())


def speak(item: int) -> int:
    print("python", item)
    puts(f"c {item}")
    print("python again", item)
    os.write(2, f"descriptor {item}\n".encode())
    print("error", item, file=sys.stderr)
    return item


def speak_on(item: int) -> int:
    speak(item)
    os.write(1, b"no newline")
    return item


def test_lines_come_in_the_order_in_which_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = listen(monkeypatch)
    with Pool(1) as pool:
        assert [pool.apply(speak, (item,)) for item in range(5)] == list(range(5))
    assert streams[0].getvalue() == "".join(f"python {item}\nc {item}\npython again {item}\n" for item in range(5))
    assert streams[1].getvalue() == "".join(f"descriptor {item}\nerror {item}\n" for item in range(5))


def test_an_unfinished_line_waits_for_its_end_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = listen(monkeypatch)
    with Pool(1) as pool:
        for part in (b"one ", b"line\n", b"rest"):
            pool.apply(os.write, (1, part))
        assert streams[0].getvalue() == "one line\n"

        def has_come() -> bool:
            time.sleep(1.2)  # what a worker says while nothing runs is heard with the next result
            pool.apply(abs, (1,))
            return streams[0].getvalue() == "one line\nrest"

        wait_for(has_come)


def wait_having_written(path: str) -> None:
    puts("from a long task")
    tasks.wait_for_file(path)


def test_it_does_not_wait_for_its_task_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    streams = listen(monkeypatch)
    with Pool(1) as pool:
        result = pool.apply_async(wait_having_written, (str(tmp_path / "go"),))
        wait_for(lambda: streams[0].getvalue() == "from a long task\n")
        assert not result.ready()
        (tmp_path / "go").touch()
        result.get(60)


def start_children() -> None:
    import logging

    subprocess.run("echo shell; echo complaint >&2", shell=True, check=True)
    fork = multiprocessing.get_context("fork")
    for function, text in ((print, "forked"), (logging.warning, "logged")):
        child = fork.Process(target=function, args=(text,))
        child.start()
        child.join()


def test_children_of_a_task_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = listen(monkeypatch)
    with Pool(1) as pool:
        pool.apply(start_children)
        wait_for(lambda: streams[0].getvalue() == "shell\nforked\n")
        wait_for(lambda: streams[1].getvalue() == "complaint\nWARNING:root:logged\n")


def flood(lines: int) -> None:
    for number in range(lines):
        os.write(1, b"%d %s\n" % (number, b"x" * 100))


def test_much_of_it_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = listen(monkeypatch)
    with Pool(1) as pool:
        pool.apply(flood, (50_000,))
        wait_for(lambda: streams[0].getvalue().count("\n") == 50_000)
    assert [int(line.split()[0]) for line in streams[0].getvalue().splitlines()] == list(range(50_000))


def repeat(times: int) -> None:
    for _ in range(times):
        os.write(2, b"danger\n")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("", "danger\n" * 3 + "... repeated 97 times: danger\n"), ("plain", "danger\n" * 100), ("off", "")],
)
def test_it_is_folded_or_shown_or_dropped_as_prints_are(tmp_path: Path, mode: str, expected: str) -> None:
    source = """
    from live.test_descriptor_output import repeat
    from scalepool.multiprocessing import Pool
    with Pool(1) as pool:
        pool.apply(repeat, (100,))
        pool.close()
        pool.join()
    """
    with script(tmp_path, source, environ={"SCALEPOOL_WORKER_OUTPUT": mode}) as driver:
        out, err = driver.finish()
    assert out == ""
    if mode:
        assert err == expected
    else:  # on a slow machine it may be counted in between
        assert sum(int(line.split()[2]) if "repeated" in line else 1 for line in err.splitlines()) == 100


def test_each_call_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = listen(monkeypatch)
    with Pool(2, capture_output=True) as pool:
        calls = [pool.apply_async(speak_on, (item,)) for item in range(10)]
        for item, call in enumerate(calls):
            assert call.get(60) == item
            lines = {f"python {item}", f"c {item}", f"python again {item}", f"descriptor {item}", f"error {item}"}
            assert set(call.output.splitlines()) == {*lines, "no newline"}
        dying = pool.apply_async(write_and_abort)
        with pytest.raises(WorkerDiedError):
            dying.get(60)
        assert dying.output == "last line\nthe library's complaint\n"
    assert (streams[0].getvalue(), streams[1].getvalue()) == ("", "")


def write_and_abort() -> None:
    puts("last line")
    os.write(2, b"the library's complaint\n")
    ctypes.CDLL(None).abort()


def write_and_be_killed() -> None:
    os.write(2, b"the library's complaint\n")
    os.kill(os.getpid(), 9)


def write_and_leave() -> None:
    os.write(2, b"the library's complaint\n")
    os._exit(3)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's message")
def free_twice() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(40)
    libc.free(block)
    libc.free(block)


def give_up() -> None:
    ctypes.pythonapi.Py_FatalError(b"no way on")


@pytest.mark.parametrize(
    ("die", "words"),
    [
        (write_and_abort, "the library's complaint"),
        (write_and_be_killed, "the library's complaint"),
        (write_and_leave, "the library's complaint"),
        (free_twice, "double free"),
        (give_up, "Fatal Python error"),
    ],
)
def test_the_last_words_of_a_worker_are_in_the_error_and_shown(
    monkeypatch: pytest.MonkeyPatch, die: Callable[[], None], words: str
) -> None:
    streams = listen(monkeypatch)
    if die is free_twice and "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("only glibc says so")
    with Pool(1) as pool:
        with pytest.raises(WorkerDiedError) as caught:
            pool.apply(die)
        assert words in caught.value.stderr
        assert words in str(caught.value)
        assert caught.value.stderr.count(words) == 1
        assert streams[1].getvalue().count(words) == 1
        assert pool.apply(abs, (-1,)) == 1


def test_what_a_worker_prints_at_its_exit_is_shown(tmp_path: Path) -> None:
    source = """
    import atexit, ctypes
    from scalepool.multiprocessing import Pool
    def promise():
        atexit.register(print, "at exit")
        ctypes.CDLL(None).printf(b"without newline, ")
    with Pool(1, maxtasksperchild=1) as pool:
        pool.apply(promise)
        pool.apply(abs, (1,))
        pool.close()
        pool.join()
    """
    assert run(tmp_path, source) == "without newline, at exit\n"
