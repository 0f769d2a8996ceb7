"""What a worker is told, and what it prints."""

from __future__ import annotations

import io
import os
import sys
import threading

import pytest

from scalepool._runtime.outlet import Outlet
from scalepool._runtime.output import TaskOutput, run_for, show
from scalepool._runtime.spec import WorkerConfig, WorkerSpec
from scalepool._store.written import Written, create_outputs
from scalepool.config import Settings

SPEC = WorkerSpec({"OMP_NUM_THREADS": "1", "X": "ü"}, b"context", b"initializer", "Näme", 7, {"": 30, "a.b": 10}, True)


def test_a_spec_survives_the_way() -> None:
    assert WorkerSpec.decode(SPEC.encode()) == SPEC
    empty = WorkerSpec({}, b"")
    assert WorkerSpec.decode(empty.encode()) == empty


def test_a_config_survives_the_way() -> None:
    config = WorkerConfig(3, "/tmp/x/hub", "00ff", Settings(tick_s=0.5, num_cpus=7), SPEC)
    assert WorkerConfig.decode(config.encode()) == config


def test_workers_are_shared_by_their_limits_alone() -> None:
    assert SPEC.kind == WorkerSpec({"X": "ü", "OMP_NUM_THREADS": "1"}, b"other", b"", "other").kind
    assert SPEC.kind != WorkerSpec({"OMP_NUM_THREADS": "2", "X": "ü"}, b"context").kind
    assert 0 <= SPEC.kind < 2**63


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


def taken(outlet: Outlet) -> list[tuple[int, str, int]]:
    return list(iter(outlet.take, None))


def test_whole_lines_are_passed_on_and_the_rest_when_flushed(outlet: Outlet) -> None:
    out = TaskOutput(1, outlet)
    assert out.write("one\ntw") == 6
    assert taken(outlet) == [(1, "one\n", 0)]
    out.write("o\nthree\nfo")
    assert taken(outlet) == [(1, "two\nthree\n", 0)]
    out.flush()
    out.flush()
    assert taken(outlet) == [(1, "fo", 0)]


def test_it_behaves_like_a_stream(outlet: Outlet) -> None:
    out = TaskOutput(2, outlet)
    print("a", "b", sep="-", file=out)

    assert taken(outlet) == [(2, "a-b\n", 0)]
    assert (out.writable(), out.isatty(), out.fileno(), out.encoding) == (True, False, 2, "utf-8")
    with pytest.raises(TypeError):
        out.write(b"bytes")  # type: ignore[arg-type]


def test_what_is_printed_for_a_task_is_marked(outlet: Outlet) -> None:
    hidden = TaskOutput(1, outlet, is_shown=False)
    hidden.write("before\n")

    def run() -> int:
        hidden.write("one\nrest")
        assert run_for(0, [hidden], lambda: hidden.write("inner\n")) == 6
        return 5

    assert run_for(9, [hidden], run) == 5
    hidden.write("after\n")

    assert taken(outlet) == [(1, "one\nrest", 9)]


def test_lines_of_threads_do_not_mix(outlet: Outlet) -> None:
    out = TaskOutput(1, outlet)

    def write(letter: str) -> None:
        for _ in range(200):
            out.write(letter * 50 + "\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = "".join(text for _, text, _ in taken(outlet)).splitlines()
    assert len(lines) == 800
    assert all(len(line) == 50 and len(set(line)) == 1 for line in lines)


def test_what_is_in_its_file_stays_there_while_the_hub_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalepool._runtime.outlet._LIMIT_BYTES", 100)
    monkeypatch.setattr("scalepool._store.written.BACKLOG_BYTES", 1000)
    monkeypatch.setattr("scalepool._store.written._CHUNK_BYTES", 500)
    unsent = 101
    outlet = Outlet(lambda: unsent)
    out = TaskOutput(1, outlet)
    fd, other = create_outputs("test")
    os.close(other)
    out.written = Written(fd)
    os.write(fd, b"x" * 99 + b"\n")
    out.look()
    assert (out.written.position, taken(outlet)) == (0, [])
    os.write(fd, b"y" * 999 + b"\n")
    out.look()  # there it would be too much
    assert out.written.position == 1100
    os.write(fd, b"z\n")
    unsent = 0
    out.look()
    assert [text for _, text, _ in taken(outlet)][-1].endswith("shown\nz\n")
    os.close(fd)


def test_show_writes_where_the_streams_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    show(1, "one")
    show(2, "two")

    assert (out.getvalue(), err.getvalue()) == ("one", "two")


def test_show_survives_streams_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, io.TextIOWrapper(io.BytesIO(), "ascii")):
        monkeypatch.setattr(sys, "stdout", stream)
        show(1, "ünïcödé \ud800")
    assert sys.stdout is stream
