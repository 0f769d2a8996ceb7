"""What a driver's conversations with hosts keep, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from scalepool._runtime.driver_talks import DriverTalks
from scalepool._runtime.talks import Talk
from scalepool._wire import cluster as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._runtime.lasting import LastingLink

SESSION, NODE = 7, 8


class Link:
    """To a head that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[c.ClusterMessage] = []
        self.on_cut: Callable[[], object] = bool
        self.on_back: Callable[[], object] = bool

    def send(self, data: bytes) -> None:
        self.sent.append(c.decode(data))


def test_what_a_host_said_last_is_acknowledged_when_the_driver_says_nothing() -> None:
    link = Link()
    talks = DriverTalks(cast("LastingLink", link), SESSION, c.Open(b"", b""), {})
    talks.begin(NODE)
    said: list[bytes] = []
    host = Talk(SESSION, NODE, said.append)
    host.say(c.Launched(SESSION, 1, 4711))
    message = c.decode(said.pop())
    assert type(message) is c.Said
    talks.rest(100.0)
    assert link.sent == []
    assert talks.hear(message) == c.Launched(SESSION, 1, 4711)
    talks.rest(100.5)  # something may be said yet that tells it, too
    assert link.sent == []
    assert host.conversation.kept_bytes > 0
    talks.rest(101.0)
    assert link.sent == [c.Heard(SESSION, NODE, 1)]
    host.conversation.known(1)
    assert host.conversation.kept_bytes == 0
    talks.rest(200.0)
    assert len(link.sent) == 1
