"""A switchboard to talk to, for tests."""

from __future__ import annotations

from typing import Any

from scalepool._core.switchboard import Switchboard
from scalepool._wire import cluster as c
from scalepool._wire.handshake import Introduction, decode_introduction, encode_introduction

OWN = Introduction(1, "3.11", "3.1", "head", "c")
D1, D2, A1, A2 = b"d1", b"d2", b"a1", b"a2"


class Head:
    """A switchboard, and what it has sent to whom."""

    def __init__(self, first: int = 0, host_grace_s: float = 0.0) -> None:
        self.board = Switchboard(OWN, first, host_grace_s)
        self.now = 0.0
        self.board.tick(0.0)

    def hello(self, link: bytes) -> None:
        data = encode_introduction(OWN._replace(host=link.decode()))
        ((to, answer),) = self.board.receive(link, self.role(link), data)
        assert to == link
        assert decode_introduction(answer) == OWN

    def say(self, link: bytes, message: Any) -> list[tuple[bytes, Any]]:
        return self.read(self.board.receive(link, self.role(link), c.encode(message)))

    def tick(self, now: float) -> list[tuple[bytes, Any]]:
        """Let time pass."""
        sends = []
        while self.now < now:
            self.now = min(now, self.now + 0.5)
            sends += self.read(self.board.tick(self.now))
        return sends

    def stop_until(self, now: float) -> list[tuple[bytes, Any]]:
        """Let time pass unseen."""
        self.now = now
        return self.read(self.board.tick(now))

    def lose(self, link: bytes, *, silent: bool = False) -> list[tuple[bytes, Any]]:
        return self.read(self.board.lose(link, "gone", silent=silent))

    @staticmethod
    def role(link: bytes) -> str:
        return "driver" if link[:1] == b"d" else "agent"

    @staticmethod
    def read(sends: list[tuple[bytes, bytes]]) -> list[tuple[bytes, Any]]:
        return [(link, c.decode(data)) for link, data in sends]


def opened(head: Head, link: bytes) -> int:
    ((to, answer), (_, nodes)) = head.say(link, c.Open(b"[]", b"token"))
    assert to == link
    assert type(nodes) is c.Nodes
    number: int = answer.session
    return number


def launch(head: Head, link: bytes, session: int, worker: int) -> int:
    """Order a worker; return the node that it is placed on."""
    *begun, (to, placed) = head.say(link, c.Launch(session, worker, b""))
    assert (to, type(placed), placed.worker) == (link, c.Placed, worker)
    for _, begin in begun:
        assert begin == c.Begin(session, placed.node, b"[]", b"token")
    node: int = placed.node
    return node


def said(session: int, node: int, message: Any, number: int = 1) -> c.Said:
    return c.Said(session, node, number, 0, c.encode(message))
