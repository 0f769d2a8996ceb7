"""The parts of the zygote that need no other process: frames, and what it may remove."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepool._proc import channel as channel_module
from scalepool._proc.channel import Channel, Frame, FrameReader, encode_prefix
from scalepool._proc.zygote import import_all, load, remove_private_dir
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = (Channel(end) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def told(frames: list[Frame]) -> list[tuple[str, bytes]]:
    return [(frame.op, frame.body) for frame in frames]


@given(
    messages=st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=40)), max_size=5),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_frames_survive_any_cutting_of_the_stream(messages: list[tuple[str, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_prefix({"op": op}, len(body), 0) + body for op, body in messages)
    reader = FrameReader()
    frames: list[Frame] = []
    at = index = 0
    while at < len(stream):
        step = cuts[index % len(cuts)]
        frames += reader.feed(stream[at : at + step])
        at, index = at + step, index + 1

    assert told(frames) == messages


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_parse_or_are_the_peers_fault(data: bytes) -> None:
    try:
        frames = FrameReader().feed(data)
    except ProtocolError:
        return
    assert all(isinstance(frame.fields, dict) for frame in frames)


@pytest.mark.parametrize("prefix", [(1 << 21, 0, 0), (2, (1 << 30) + 1, 0), (2, 0, 9)])
def test_impossible_lengths_are_refused_before_anything_is_buffered(prefix: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolError, match="impossible frame"):
        FrameReader().feed(channel_module._PREFIX.pack(*prefix))


def test_too_large_a_header_is_refused_by_the_sender(pair: Pair) -> None:
    with pytest.raises(ProtocolError, match="too large"):
        pair[0].send({"op": "x" * (1 << 20)})
    pair[0].send({"op": "next"})

    assert told(pair[1].receive()) == [("next", b"")]


def test_a_sender_never_blocks_and_what_is_left_over_arrives_later(pair: Pair) -> None:
    left, right = pair
    body = os.urandom(3 << 20)

    assert not left.send({"op": "large"}, body)
    assert not left.send({"op": "small"}, b"after")
    assert left.has_backlog
    frames: list[Frame] = []
    while len(frames) < 2:
        left.flush()
        frames += right.receive()

    assert told(frames) == [("large", body), ("small", b"after")]
    assert not left.has_backlog


def test_descriptors_arrive_with_their_frame_and_close_on_exec(pair: Pair) -> None:
    left, right = pair
    files = [os.memfd_create(name) for name in ("one", "two", "three")]
    for number, fd in enumerate(files):
        os.write(fd, b"%d" % number)
    left.send({"op": "plain"}, b"x" * 1000)
    left.send({"op": "a"}, b"y" * 1000, fds=files[:2], close_after=files[:2])
    left.send({"op": "b"}, fds=files[2:], close_after=files[2:])

    frames = right.receive()

    assert [len(frame.fds) for frame in frames] == [0, 2, 1]
    received = [fd for frame in frames for fd in frame.fds]
    assert [os.pread(fd, 1, 0) for fd in received] == [b"0", b"1", b"2"]
    assert not any(os.get_inheritable(fd) for fd in received)
    for fd in received:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):  # the sender's copies were closed for it
        os.fstat(files[0])


def test_descriptors_that_the_kernel_dropped_do_not_shift_those_of_later_frames() -> None:
    reader = FrameReader()
    first, second = os.memfd_create("first"), os.memfd_create("second")
    reader.add_fds([first])  # of two; the process had no more room
    reader.add_fds([second])

    lost, whole = reader.feed(encode_prefix({"op": "lost"}, 0, 2) + encode_prefix({"op": "whole"}, 0, 1))

    assert (lost.fds_lost, lost.fds) == (True, ())
    assert (whole.fds_lost, whole.fds) == (False, (second,))
    os.close(second)
    with pytest.raises(OSError, match="Bad file descriptor"):  # half a set is of no use to anybody
        os.fstat(first)


def test_finish_sends_eof_after_the_queue_even_beside_a_copy_of_the_socket(pair: Pair) -> None:
    left, right = pair
    copy = os.dup(left.fileno())  # as a forked process has
    left.send({"op": "last"})
    left.finish()

    assert told(right.receive()) == [("last", b"")]
    assert right.eof
    os.close(copy)


def test_a_vanished_peer_is_an_eof_and_no_error(pair: Pair) -> None:
    left, right = pair
    right.close()

    assert left.send({"op": "into the void"})
    assert not left.has_backlog
    assert left.receive() == []
    assert left.eof


def test_remove_private_dir_removes_only_a_private_directory(
    session_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(session_dir)
    assert not remove_private_dir(str(link))
    session_dir.chmod(0o750)
    assert not remove_private_dir(str(session_dir))
    assert session_dir.exists()
    assert "left alone" in capfd.readouterr().err

    session_dir.chmod(0o700)
    assert remove_private_dir(str(session_dir))
    assert not session_dir.exists()
    assert remove_private_dir(str(session_dir))  # gone is gone


def test_modules_that_cannot_be_imported_are_reported() -> None:
    assert import_all(["json", "no_such_module_at_all"]) == {
        "no_such_module_at_all": "ModuleNotFoundError: No module named 'no_such_module_at_all'"
    }


def test_load_follows_dotted_attributes() -> None:
    assert load("_proc.test_zygote:Channel.send") is Channel.send
