"""What is to be run, and in which order."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalepool.bench.candidates import has_module, missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from scalepool.bench.model import Workload

__all__ = ["Plan", "Slot", "UnknownNameError", "select", "why_not"]


class UnknownNameError(Exception):
    """A name or pattern fits nothing.

    Parameters
    ----------
    pattern
        What was asked for.
    valid
        What there is.
    """

    def __init__(self, pattern: str, valid: Sequence[str]) -> None:
        super().__init__(f"no {pattern!r}; there is: {', '.join(valid)}")
        self.pattern = pattern


def select(patterns: str | None, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that fit.

    Parameters
    ----------
    patterns
        Names or shell patterns with commas between, in any case; ``None`` for all.
    names
        What there is, in the order in which the result is wanted.

    Raises
    ------
    UnknownNameError
        When a pattern fits none of them.
    """
    there = tuple(names)
    if patterns is None:
        return there
    chosen: set[str] = set()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        fitting = [name for name in there if fnmatch.fnmatchcase(name.lower(), pattern.lower())]
        if not fitting:
            raise UnknownNameError(pattern, there)
        chosen.update(fitting)
    if not chosen:
        raise UnknownNameError(patterns, there)
    return tuple(name for name in there if name in chosen)


def why_not(workload: Workload, candidate: str) -> str | None:
    """Return why a candidate cannot do a workload on this machine; ``None`` when it can."""
    absent = [name for name in workload.needs if not has_module(name)]
    return f"{absent[0]} is not installed" if absent else missing(candidate)


@dataclass(frozen=True, slots=True)
class Slot:
    """One run: in which round who does what."""

    workload: str
    candidate: str
    round: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a comparison consists of.

    Parameters
    ----------
    workloads, candidates
        Names.
    rounds
        How often each is run.
    workers
        Number of worker processes, where the workload does not say it.
    quick
        Whether small sizes are taken.
    timeout_s
        Seconds after which a run is given up.
    """

    workloads: tuple[str, ...]
    candidates: tuple[str, ...]
    rounds: int
    workers: int
    quick: bool = False
    timeout_s: float = 120.0

    def takers(self, workload: Workload) -> tuple[str, ...]:
        """Return the candidates that do a workload, in the order of its adapters."""
        return tuple(name for name in workload.adapters if name in self.candidates)

    def slots(self, catalogue: Mapping[str, Workload]) -> Iterator[Slot]:
        """Yield all runs that are possible here, workload by workload.

        Within a workload the candidates take turns, and each round begins with another one: what changes on the machine
        in the course of minutes changes for all of them.
        """
        for name in self.workloads:
            workload = catalogue[name]
            able = [taker for taker in self.takers(workload) if why_not(workload, taker) is None]
            for number in range(self.rounds):
                first = number % max(1, len(able))
                for candidate in able[first:] + able[:first]:
                    yield Slot(name, candidate, number)
