"""One end of a connection: nothing blocks, nothing is lost, nothing is mixed up."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from scalepool._net.stream import MessageStream

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 24


@pytest.fixture
def ends() -> Iterator[tuple[MessageStream, MessageStream]]:
    one, other = (MessageStream(end, LIMIT) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_what_the_socket_does_not_take_waits_and_keeps_its_order(ends: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = ends
    messages = [bytes([number]) * size for number, size in enumerate([10, 3_000_000, 0, 70_000, 5] * 3)]
    for message in messages:
        sender.send(message)
    assert sender.unsent

    got: list[bytes] = []
    while len(got) < len(messages):
        sender.flush()
        got += receiver.receive() or []
    assert got == messages
    assert not sender.unsent
    assert sender.flush()
    assert receiver.receive() == []


def test_what_was_sent_before_the_end_is_received_before_it(ends: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = ends
    receiver.send(b"never read")  # the reset that this makes must not swallow what comes the other way
    sender.send(b"last words")
    sender.close()

    assert receiver.receive() == [b"last words"]
    assert receiver.receive() is None


def test_sending_to_nobody_is_an_error(ends: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = ends
    receiver.close()
    with pytest.raises(OSError, match=r"."):
        sender.send(b"x")


def test_a_flush_to_nobody_is_an_error(ends: tuple[MessageStream, MessageStream]) -> None:
    sender, receiver = ends
    sender.send(b"x" * 4_000_000)
    receiver.close()
    with pytest.raises(OSError, match=r"."):
        sender.flush()
