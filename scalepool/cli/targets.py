"""Where ``scalepool up`` is told to start workers: ``ssh://user@h1,h2:4`` or ``slurm://partition?nodes=4``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BATCH_SYSTEMS", "Batch", "Host", "TargetError", "batch", "distinct", "hosts", "hosts_in_lines", "variables"]

BATCH_SYSTEMS: Final = ("slurm", "pbs", "lsf")
# Nothing begins with a dash: ssh would take it for an option.
_HOST: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.\\+-]*)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*))"
    r"(?::(?P<slots>[0-9]{1,5}))?"
)
_PLAIN: Final = re.compile(r"[^\s\"'`\\$;|<>&\x00-\x1f\x7f]+")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_NODES: Final = 10_000


class TargetError(ValueError):
    """What is wrong with a target, for its user."""


class Host(NamedTuple):
    """A host to be reached by ssh, and how many workers it has room for; 0: as many as it has CPUs."""

    name: str
    user: str = ""
    slots: int = 0

    @property
    def login(self) -> str:
        """What ssh is given."""
        return f"{self.user}@{self.name}" if self.user else self.name


class Batch(NamedTuple):
    """What a batch system is asked for: options with a name of ours, and those that it is given as they are."""

    system: str
    nodes: int
    known: Mapping[str, str]
    others: tuple[tuple[str, str], ...]


def hosts(text: str) -> tuple[Host, ...]:
    """Return the hosts of ``user@h1,h2:4``; the first one's user is everybody's who has none.

    Raises
    ------
    TargetError
        When it names none, one twice, or what is no host.
    """
    return distinct(_host(part) for part in text.rstrip("/").split(","))


def hosts_in_lines(text: str) -> tuple[Host, ...]:
    """Return the hosts of a file: one in each line, as in a target; # begins a comment."""
    return distinct(_host(line) for raw in text.splitlines() if (line := raw.partition("#")[0].strip()))


def _host(text: str) -> Host:
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise TargetError(f"{text!r} is no host: user@host:4 is, where user and the number of workers may be left out")
    if match["slots"] is not None and int(match["slots"]) == 0:
        raise TargetError(f"{text!r}: the number of workers is at least 1")
    return Host(match["six"] or match["name"], match["user"] or "", int(match["slots"] or 0))


def distinct(found: Iterable[Host]) -> tuple[Host, ...]:
    """Return the hosts, with the first one's user for those that have none.

    Raises
    ------
    TargetError
        When there are none, or one is named twice.
    """
    named = list(found)
    if not named:
        raise TargetError("no hosts are named")
    first = named[0].user
    named = [host if host.user else host._replace(user=first) for host in named]
    seen: set[str] = set()
    for host in named:
        if host.name in seen:
            raise TargetError(f"the host {host.name} is named twice; h:4 says how many workers it has room for")
        seen.add(host.name)
    return tuple(named)


#: Our names of what all batch systems know, and what else people call it.
_KNOWN: Final = {
    "time": "time", "walltime": "time", "account": "account", "project": "account", "cpus": "cpus",
    "cpus-per-task": "cpus", "mem": "mem", "memory": "mem", "gpus": "gpus", "name": "name", "job-name": "name",
    "log": "log", "output": "log", "partition": "queue", "queue": "queue",
}  # fmt: skip
_NUMBERS: Final = ("cpus", "gpus")


def batch(system: str, rest: str) -> Batch:
    """Return what ``partition?nodes=4&time=1:00:00`` asks for; the partition (or queue) may be left out.

    Raises
    ------
    TargetError
        When an option is none, or could not be passed on in one line of a job script.
    """
    queue, _, query = rest.partition("?")
    known: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    if queue.rstrip("/"):
        known["queue"] = _plain("the queue", queue.rstrip("/"))
    nodes = 1
    for key, value in parse_qsl(query, keep_blank_values=True):
        if not _NAME.fullmatch(key):
            raise TargetError(f"{key!r} is no name of an option")
        if key == "nodes":
            nodes = _number(key, value, _MOST_NODES)
        elif key in _KNOWN:
            ours = _KNOWN[key]
            known[ours] = str(_number(key, value, 1 << 16)) if ours in _NUMBERS else _plain(key, value)
        else:
            others.append((key, _plain(key, value) if value else ""))
    return Batch(system, nodes, known, tuple(others))


def _plain(what: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise TargetError(f"{what}: {value!r} cannot stand in a job script's directive; see --template")
    return value


def _number(what: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= most):
        raise TargetError(f"{what} is a number from 1 to {most}, not {text!r}")
    return int(text)


def variables(given: Iterable[str]) -> dict[str, str]:
    """Return environment variables from ``NAME=VALUE``.

    Raises
    ------
    TargetError
        When one is not of that form.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not _VARIABLE.fullmatch(name) or "\0" in value:
            raise TargetError(f"--env {text!r}: give it as NAME=VALUE")
        found[name] = value
    return found
