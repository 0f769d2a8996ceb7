"""Reading a file that others append to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from scalepool._store import written
from scalepool._store.written import Written, create_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[True, False], ids=["memfd", "file"])
def fd(request: pytest.FixtureRequest) -> Iterator[int]:
    out, err = create_outputs("test", use_memfd=request.param)
    os.close(err)
    yield out
    os.close(out)


def test_whole_lines_are_taken_and_the_rest_when_asked_for(fd: int) -> None:
    file = Written(fd)
    assert not file.has_grown
    assert file.take() == b""
    os.write(fd, b"one\ntw")
    assert file.has_grown
    assert file.take() == b"one\n"
    assert not file.has_grown
    os.write(fd, b"o\nthr")
    assert file.take() == b"two\n"
    assert file.take(everything=True) == b"thr"
    assert file.take(everything=True) == b""
    assert file.position == 11


def test_a_line_without_end_is_taken_in_parts(fd: int) -> None:
    file = Written(fd)
    os.write(fd, b"x" * 200_000)
    assert file.take() == b"x" * 200_000


def test_what_was_read_is_given_back(fd: int) -> None:
    file = Written(fd)
    for _ in range(40):
        os.write(fd, b"y" * 99_999 + b"\n")
        assert file.take() == b"y" * 99_999 + b"\n"
    status = os.fstat(fd)
    assert status.st_size == 4_000_000
    assert status.st_blocks * 512 < 2_000_000


def test_a_flood_loses_its_oldest_part_and_says_so(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "BACKLOG_BYTES", 1_500_000)
    file = Written(fd)
    os.write(fd, b"0123456\n" * 250_000)
    dropped = 2_000_000 - (1 << 20)
    assert file.is_too_much

    lines = file.take().splitlines()

    assert lines[0].startswith(b"... %d bytes dropped" % dropped)
    assert len(lines) == 1 + (1 << 20) // 8
    assert file.position == 2_000_000
    assert not file.is_too_much


def test_a_file_that_was_truncated_is_read_from_its_start(fd: int) -> None:
    file = Written(fd)
    os.write(fd, b"before\n")
    assert file.take() == b"before\n"
    os.ftruncate(fd, 0)
    os.write(fd, b"new\n")
    assert file.take() == b"new\n"
