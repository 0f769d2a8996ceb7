"""Descriptors and named semaphores on their way into a worker; here the reader is the same process."""

from __future__ import annotations

import ctypes
import functools
import gc
import multiprocessing
import multiprocessing.sharedctypes
import multiprocessing.synchronize
import os
import socket
import tempfile
import weakref
from multiprocessing import context
from pathlib import Path
from typing import Any

import pytest

from scalepool._runtime.inheritance import ForkContextError, Inheritance, SentDescriptor
from scalepool._wire.payload import dumps, loads
from scalepool.errors import SerializationError

SPAWN = multiprocessing.get_context("spawn")


def pack(inherited: Inheritance, value: object) -> bytes:
    with inherited.spawning(value) as reducers:
        return dumps(value, oob_threshold=1 << 62, reducers=reducers).data


def descriptors() -> set[str]:
    gc.collect()  # what other tests left must not go in between
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_the_ends_of_a_pipe_keep_their_direction() -> None:
    ends = os.pipe()
    reader, writer = (SentDescriptor.of(end).detach() for end in ends)
    try:
        assert os.write(writer, b"through") == 7
        assert os.read(ends[0], 3) == b"thr"
        assert os.read(reader, 9) == b"ough"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(reader, b"x")
        assert not os.get_inheritable(reader)
        assert os.get_blocking(reader)
    finally:
        for fd in (*ends, reader, writer):
            os.close(fd)


def test_a_reader_whose_writer_is_gone_gets_the_end_at_once() -> None:
    end, other = os.pipe()
    os.close(other)
    fd = SentDescriptor.of(end).detach()
    assert os.read(fd, 1) == b""
    os.close(fd)
    os.close(end)


def test_a_file_without_a_name_is_opened_for_writing() -> None:
    with tempfile.TemporaryFile() as file:
        fd = SentDescriptor.of(file.fileno()).detach()
        os.write(fd, b"shared")
        os.close(fd)
        assert file.read() == b"shared"


def test_a_socket_is_taken_over() -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(fileno=SentDescriptor.of(one.fileno()).detach()) as taken:
        taken.sendall(b"x")
        assert other.recv(1) == b"x"


def test_a_socket_that_cannot_be_taken_over_says_what_to_use() -> None:
    one, other = socket.socketpair()
    with one, other:
        sent = SentDescriptor.of(one.fileno())._replace(fd=1_000_000)
    with pytest.raises(OSError, match=r"could not be taken over from process \d+ .*Bad file.*Pipe\(duplex=False\)"):
        sent.detach()


def test_a_number_that_was_used_again_is_not_taken_for_the_old_thing() -> None:
    before = descriptors()
    with tempfile.TemporaryFile() as old, tempfile.TemporaryFile() as new:
        sent = SentDescriptor.of(old.fileno())
        os.dup2(new.fileno(), old.fileno())
        with pytest.raises(OSError, match="has been closed, and its number used again"):
            sent.detach()
    assert descriptors() <= before


def test_multiprocessing_thinks_it_spawns_only_meanwhile() -> None:
    inherited = Inheritance()
    with inherited.spawning(()):
        child: Any = context.get_spawning_popen()
        with Inheritance().spawning(()):
            assert context.get_spawning_popen() is not child
        assert context.get_spawning_popen() is child
    assert context.get_spawning_popen() is None
    with pytest.raises(ZeroDivisionError), inherited.spawning(()):
        raise ZeroDivisionError
    assert context.get_spawning_popen() is None


def test_an_end_of_a_pipe_stays_open_until_released() -> None:
    before = descriptors()
    inherited = Inheritance()
    reader, writer = SPAWN.Pipe(duplex=False)
    data = pack(inherited, (writer, writer, lambda: writer))  # by value: pickled twice, duplicated once
    assert len(descriptors() - before) == 3
    writer.close()

    first, same, _ = loads(data)
    assert first is same
    first.send("hello")
    assert reader.recv() == "hello"

    first.close()
    inherited.release()
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()
    assert descriptors() <= before


def test_what_is_shared_is_kept_and_nothing_else() -> None:
    class Plain:
        pass

    inherited, idle = Inheritance(), Inheritance()
    shared, plain = [SPAWN.Lock()], [Plain()]
    lock, left = weakref.ref(shared[0]), weakref.ref(plain[0])
    pack(inherited, shared)
    with idle.spawning(plain):
        pass
    del shared, plain
    assert lock() is not None
    assert left() is None
    inherited.release()
    assert lock() is None


def test_a_semaphore_is_opened_by_name() -> None:
    lock = SPAWN.Lock()
    copy = loads(pack(Inheritance(), lock))
    assert copy is not lock
    with lock:
        assert not copy.acquire(block=False)
    assert copy.acquire(block=False)
    copy.release()


def test_a_shared_value_is_shared_and_a_plain_one_of_the_same_type_copied() -> None:
    inherited = Inheritance()
    shared, plain = SPAWN.RawValue(ctypes.c_int, 1), ctypes.c_int(2)
    copies = loads(pack(inherited, (shared, plain)))
    copies[0].value = 7
    copies[1].value = 8
    assert (shared.value, plain.value) == (7, 2)
    inherited.release()


def test_partials_and_methods_go_as_pickle_has_them() -> None:
    with Inheritance().spawning(()) as reducers:
        assert functools.partial not in reducers
        assert type("".join) not in reducers
        assert type(Inheritance().release) not in reducers


class OwnLock(multiprocessing.synchronize.Lock):
    """Somebody's subclass."""


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda fork: fork.Lock(), "Lock"),
        (lambda fork: fork.Queue(), "Queue"),
        (lambda fork: fork.Event(), "Event"),
        (lambda fork: fork.Value("i", 0), "Value"),
        (lambda fork: fork.Array("i", 1), "Array"),
        (lambda fork: OwnLock(ctx=fork), "OwnLock"),
    ],
)
def test_a_lock_of_the_fork_context_is_refused_with_the_remedy(make: Any, name: str) -> None:
    culprit = make(multiprocessing.get_context("fork"))
    before = descriptors()
    with pytest.raises(SerializationError, match=rf"get_context\('spawn'\)\.{name}\(\)$") as caught:
        pack(Inheritance(), {"deep": [culprit]})
    assert caught.value.path == "['deep'][0]"
    assert isinstance(caught.value.__cause__, ForkContextError)
    assert descriptors() <= before


def test_an_appending_writer_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("ab") as file:
        fd = SentDescriptor.of(file.fileno()).detach()
        path.write_bytes(b"first ")
        os.write(fd, b"second")
        os.close(fd)
    assert path.read_bytes() == b"first second"
