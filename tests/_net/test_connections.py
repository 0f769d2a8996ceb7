"""Whose connection fell silent, as the kernel sees it."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from scalepool._net.connections import CAN_TELL, Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not CAN_TELL, reason="this system does not say when something last came")

LONG_S = 20.0
INTERVAL_S = 0.01
TIMEOUT_S = 0.1


def looks(connections: Connections) -> Callable[[], None]:
    """Return what looks once more, each time as if one interval later."""
    now_s = 0.0

    def look() -> None:
        nonlocal now_s
        now_s += INTERVAL_S
        connections.look(now_s)

    return look


def until(condition: Callable[[], object], look: Callable[[], None]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        look()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as far,
        listener.accept()[0] as near,
    ):
        near.settimeout(0)
        yield near, far


@pytest.fixture
def near(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[0]


@pytest.fixture
def far(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[1]


def ended(near: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return near.recv(1) == b""
    return False


def test_who_says_nothing_for_too_long_is_ended_and_fell_silent(near: socket.socket) -> None:
    connections = Connections(INTERVAL_S, TIMEOUT_S)
    connections.hold(b"a", near.fileno())
    assert b"a" in connections
    until(lambda: ended(near), looks(connections))
    assert connections.fell_silent(b"a")
    assert b"a" not in connections


def test_who_says_something_is_left_alone_and_so_is_who_is_not_heard(near: socket.socket, far: socket.socket) -> None:
    connections = Connections(INTERVAL_S, TIMEOUT_S)
    connections.hold(b"a", near.fileno())
    look = looks(connections)
    began = time.monotonic()
    far.send(b"x")
    while time.monotonic() < began + 3 * TIMEOUT_S:  # nobody reads what has come
        look()
        time.sleep(INTERVAL_S)
    assert near.recv(1) == b"x"
    until(lambda: ended(near), look)
    assert connections.fell_silent(b"a")


def test_who_closes_did_not_fall_silent(near: socket.socket, far: socket.socket) -> None:
    connections = Connections(INTERVAL_S, TIMEOUT_S)
    connections.hold(b"a", near.fileno())
    far.close()
    until(lambda: ended(near), looks(connections))
    assert not connections.fell_silent(b"a")


def test_a_look_that_comes_late_ends_nobody(near: socket.socket) -> None:
    connections = Connections(INTERVAL_S, TIMEOUT_S)
    connections.hold(b"a", near.fileno())
    time.sleep(2 * TIMEOUT_S)
    for now_s in range(10):  # a second apart: this process was stopped before each
        connections.look(float(now_s))
        assert not ended(near)
    connections.look(9 + INTERVAL_S)
    until(lambda: ended(near), looks(connections))
    assert connections.fell_silent(b"a")


def test_nobody_known_fell_silent_and_others_are_let_go_of(near: socket.socket) -> None:
    connections = Connections(INTERVAL_S, TIMEOUT_S)
    assert not connections.fell_silent(b"a")
    connections.hold(b"a", -1)  # ended before it could be held
    assert b"a" not in connections
    connections.hold(b"a", near.fileno())
    connections.hold(b"b", near.fileno())
    connections.hold_only([b"b"])
    assert (b"a" in connections, b"b" in connections) == (False, True)
    connections.hold_only([])
