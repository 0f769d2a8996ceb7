"""The references of one simulated process: counted as a real client counts them, and told to the hub in its order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

__all__ = ["Known", "Purse", "Reader"]


@dataclass
class Known:
    """How a value has ended, as this process was told; ``objects`` are those that it lies in."""

    status: int
    payload: bytes
    objects: tuple[int, ...]


@dataclass
class Reader:
    """A stream that this process reads."""

    task: int
    arrived: list[int] = field(default_factory=list)
    """Values that it has not taken."""
    taken: int = 0


class Purse:
    """Who counts here says when a reference came or went; ``drain`` says what the hub has to hear of it."""

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.counts: dict[int, int] = {}
        self.held: set[int] = set()
        self.known: dict[int, Known] = {}
        self.asked: set[int] = set()
        """Values that a reply will come for."""
        self.replies: Counter[int] = Counter()
        """How many replies may come for each."""
        self.readers: dict[int, Reader] = {}
        self.queue: list[m.Message] = []
        self.actors: Container[int] = ()
        """Those values that are handles."""
        self.questions = 0
        """How many about names are open: no handle is given back meanwhile."""
        self._changed: dict[int, None] = {}
        self._released: list[int] = []

    def begin_question(self) -> None:
        """It is about a name: what has gone is given back ahead of it, and no handle until it is answered."""
        if not self.questions:
            self.queue = self.drain()
        self.questions += 1

    def post(self, message: m.Message) -> None:
        self.queue.append(message)

    # ---- references come and go ----

    def own(self, values: Sequence[int]) -> None:
        """They were made here, or the hub holds them for this process already; each has one reference."""
        for value in values:
            self.counts[value] = self.counts.get(value, 0) + 1  # an actor may have been found by its name already
            self.held.add(value)
            self.asked.add(value)
            self.replies[value] += 1

    def adopt(self, value: int) -> None:
        self.counts[value] = self.counts.get(value, 0) + 1
        self._changed[value] = None

    def drop(self, value: int) -> None:
        self.counts[value] -= 1
        self._changed[value] = None

    def want(self, values: Sequence[int]) -> None:
        """Ask for those that came from elsewhere."""
        unasked = [value for value in dict.fromkeys(values) if value not in self.asked]
        if unasked:
            self.asked.update(unasked)
            self.replies.update(unasked)
            self.post(m.Want(unasked))

    def drain(self) -> list[m.Message]:
        """What the hub has to hear: first what came, last what went."""
        hold: list[int] = []
        held_back: dict[int, None] = {}
        release, self._released = self._released, []
        while self._changed:
            changed, self._changed = self._changed, {}
            for value in changed:
                count = self.counts.get(value)
                if count is None:
                    continue
                if count <= 0 and self.questions and value in self.actors:
                    held_back[value] = None
                elif count <= 0:
                    release.append(value)
                    release.extend(self._forget(value))
                elif value not in self.held:
                    self.held.add(value)
                    hold.append(value)
        self._changed.update(held_back)
        queue, self.queue = self.queue, []
        first: list[m.Message] = [m.Hold(hold)] if hold else []
        return [*first, *queue, m.Release(release)] if release else [*first, *queue]

    def _forget(self, value: int) -> tuple[int, ...]:
        del self.counts[value]
        self.held.discard(value)
        self.asked.discard(value)
        reader = self.readers.pop(value - 1, None)  # it was the right to read a stream
        for unread in reader.arrived if reader else ():
            self.drop(unread)
        known = self.known.pop(value, None)
        return known.objects if known is not None else ()

    # ---- what the hub says ----

    def arrived(self, value: int, status: int, payload: bytes, objects: tuple[int, ...]) -> bool:
        """Note how a value has ended; False when nobody here has a reference any more, or it is known."""
        if value not in self.counts:
            self._released.extend(objects)
            return False
        if value in self.known:
            return False
        self.known[value] = Known(status, payload, objects)
        self.asked.add(value)
        return True

    def yielded(self, message: m.Yielded) -> None:
        """A stream has made its next value."""
        self.own(message.values)
        reader = self.readers.get(message.task)
        if reader is None:
            for value in message.values:
                self.drop(value)
        else:
            reader.arrived.extend(message.values)
