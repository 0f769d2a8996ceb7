"""Where each host is to get an object from: the program decides, so that no link carries the same object many times.

A *place* is a host, by its number, or the program itself, which is 0. One that has an object, or is still receiving it,
serves others: what is asked for by many spreads as a tree, at most two from each place at a time. The one who had it
first is the root, and sends it to one: as long as all reach each other his link carries it once. A place that reaches
none of those that have the object gets it over the head, by *relay*.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BROKEN", "FAN_OUT", "GIVEN_UP", "HERE", "RELAY", "UNREACHABLE", "Assign", "Sources"]

HERE: Final = 0
"""As a result: the object is here now."""
BROKEN: Final = 1
"""The source broke off, or has it no more."""
UNREACHABLE: Final = 2
"""Nobody answers there, or not who should."""
GIVEN_UP: Final = 3
"""There is no room for it, or it is not needed any more."""

FAN_OUT: Final = 2
"""Objects that a place sends at a time."""
_TRIES: Final = 4
"""So often a place is sent elsewhere for the same object, before it takes the relay."""
RELAY: Final = -1
"""As a source: over the head."""


class Assign(NamedTuple):
    """``place`` is to get the object from ``source``."""

    object: int
    place: int
    source: int


class _Object:
    """Who has it, who receives it and from where, who waits."""

    __slots__ = ("failures", "holders", "number", "owner", "receiving", "served", "waiting")

    def __init__(self, number: int, owner: int) -> None:
        self.number = number
        self.owner = owner
        self.holders = {owner}
        self.receiving: dict[int, int] = {}
        self.waiting: deque[int] = deque()
        self.served: dict[int, int] = {}
        self.failures: dict[int, int] = {}


class Sources:
    """Objects, places, and which of them send to which.

    Parameters
    ----------
    fan_out
        Objects that a place sends at a time.
    """

    def __init__(self, fan_out: int = FAN_OUT) -> None:
        self._fan_out = fan_out
        self._objects: dict[int, _Object] = {}
        self._waited_for: dict[int, _Object] = {}
        self._load: dict[int, int] = {}
        self._cut: set[tuple[int, int]] = set()
        """Pairs (place, source) of which the first cannot connect to the second."""
        self._reachable: set[int] = set()

    def __len__(self) -> int:
        return len(self._objects)

    def listens(self, place: int) -> None:
        """Others may connect to a place."""
        self._reachable.add(place)

    def want(self, object_id: int, place: int, owner: int) -> list[Assign]:
        """A place needs an object that ``owner`` has; told again after it is there, or by `failed`."""
        known = self._objects.get(object_id)
        if known is None:
            known = self._objects[object_id] = _Object(object_id, owner)
        if place in known.receiving or place in known.waiting:
            return []
        known.holders.add(owner)
        known.holders.discard(place)  # it would not ask
        self._wait(known, place)
        return self._settle()

    def ended(self, object_id: int, place: int, result: int) -> list[Assign]:
        """A place reports what became of what it was assigned: one of the results."""
        if result == HERE:
            return self.got(object_id, place)
        if result in (BROKEN, UNREACHABLE):
            return self.failed(object_id, place, unreachable=result == UNREACHABLE)
        return self.given_up(object_id, place)

    def got(self, object_id: int, place: int) -> list[Assign]:
        """A place has an object now, and serves it."""
        known = self._objects.get(object_id)
        if known is None:
            return []
        self._end(known, place)
        known.holders.add(place)
        return self._settle()

    def failed(self, object_id: int, place: int, *, unreachable: bool = False) -> list[Assign]:
        """A source broke off, or could not be reached at all, which is not tried again: the next one."""
        known = self._objects.get(object_id)
        if known is None:
            return []
        source = self._end(known, place)
        if source is None or source == RELAY:
            return self._settle()  # it is not asked for any more
        known.failures[place] = known.failures.get(place, 0) + 1
        if unreachable:
            self._cut.add((place, source))
        else:
            known.holders.discard(source)  # it let go of it, or is about to be lost
        self._wait(known, place)
        return self._settle()

    def given_up(self, object_id: int, place: int) -> list[Assign]:
        """A place does not need an object any more."""
        known = self._objects.get(object_id)
        if known is not None:
            self._end(known, place)
            if place in known.waiting:
                known.waiting.remove(place)
        return self._settle()

    def forget(self, objects: Iterable[int]) -> list[Assign]:
        """Nobody needs these objects any more."""
        for object_id in objects:
            known = self._objects.pop(object_id, None)
            self._waited_for.pop(object_id, None)
            if known is not None:
                for place in list(known.receiving):
                    self._end(known, place)
        return self._settle()

    def lose(self, place: int) -> list[Assign]:
        """A place is gone. Who received from it reports that by `failed`."""
        self._reachable.discard(place)
        self._cut = {pair for pair in self._cut if place not in pair}
        for known in self._objects.values():
            known.holders.discard(place)
            self._end(known, place)
            if place in known.waiting:
                known.waiting.remove(place)
        return self._settle()

    def _wait(self, known: _Object, place: int) -> None:
        known.waiting.append(place)
        self._waited_for[known.number] = known

    def _end(self, known: _Object, place: int) -> int | None:
        source = known.receiving.pop(place, None)
        if source is not None and source != RELAY:
            self._load[source] -= 1
        return source

    def _settle(self) -> list[Assign]:
        assigned = []
        for object_id, known in list(self._waited_for.items()):
            for _ in range(len(known.waiting)):
                place = known.waiting.popleft()
                source = self._source(known, place)
                if source is None:
                    known.waiting.append(place)
                    continue
                known.receiving[place] = source
                if source != RELAY:
                    self._load[source] = self._load.get(source, 0) + 1
                    known.served[source] = known.served.get(source, 0) + 1
                assigned.append(Assign(object_id, place, source))
            if not known.waiting:
                del self._waited_for[object_id]
        return assigned

    def _source(self, known: _Object, place: int) -> int | None:
        """Return the best source for a place; ``None``: all are busy now."""
        if known.failures.get(place, 0) >= _TRIES:
            return RELAY
        able = [
            one
            for one in (*known.holders, *known.receiving)
            if one in self._reachable and one != place and (place, one) not in self._cut
            and not self._leads_to(known, one, place)
        ]  # fmt: skip
        if not able:
            return RELAY
        free = [one for one in able if self._load.get(one, 0) < self._fan_out]
        if not free:
            return None
        # Who has sent it twice comes last, and the owner once he has sent it at all, so that no link carries it more
        # often while there are others. Else who has it whole comes before who still receives it, the nearer to its
        # source the better; the owner after others.
        served = known.served
        return min(
            free,
            key=lambda one: (
                served.get(one, 0) >= (1 if one == known.owner else self._fan_out), self._depth(known, one),
                self._load.get(one, 0), served.get(one, 0), one == known.owner, one,
            ),
        )  # fmt: skip

    def _depth(self, known: _Object, place: int) -> int:
        depth = 0
        while place in known.receiving:
            depth, place = depth + 1, known.receiving[place]
        return depth

    def _leads_to(self, known: _Object, place: int, end: int) -> bool:
        """Whether what ``place`` receives comes, over whatever others, from ``end``."""
        while place in known.receiving:
            place = known.receiving[place]
            if place == end:
                return True
        return False
