"""Why the hub ended a task that its worker did not: the payload of ``Status.WORKER_DIED``, ``TIMED_OUT`` and the like.

Three parts: facts that the hub knows, a report that whoever saw the worker's end has written (the hub passes it on
unread), and the pickled arguments of the task, so that its owner can say in the error what it was called with. Whoever
submitted a task does not keep its arguments; on the way of a failure there is time to carry them back.
"""

from __future__ import annotations

import json
import struct

from scalepool._base.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

__all__ = [
    "MAX_ARGUMENT_BYTES",
    "Loss",
    "Verdict",
    "pack_losses",
    "pack_report",
    "pack_verdict",
    "unpack_losses",
    "unpack_verdict",
]

_LENGTHS: Final = struct.Struct("<II")
_LOSS: Final = struct.Struct("<qBI")

MAX_ARGUMENT_BYTES: Final = 256 * 1024
"""Longer pickles of arguments are not carried back."""


class Verdict(NamedTuple):
    """A verdict, read.

    Attributes
    ----------
    facts
        ``pid``, ``exitcode``, ``attempt``, ``reason``, ``item``.
    report
        What the process's end showed; see ``pack_report``. Empty when nobody saw it.
    arguments
        What the task was called with, as it travelled; empty when that was too long.
    """

    facts: Mapping[str, Any]
    report: Mapping[str, Any]
    arguments: bytes


class Loss(NamedTuple):
    """An item of a task's input that is given up: its worker died of it, or it ran too long.

    Attributes
    ----------
    item
        Which one, counted from 1.
    status, verdict
        As for a task that ends so.
    """

    item: int
    status: int
    verdict: bytes


def pack_losses(losses: Iterable[Loss]) -> bytes:
    """Return them as bytes, for the worker that runs the rest of the task."""
    return b"".join(_LOSS.pack(item, status, len(verdict)) + verdict for item, status, verdict in losses)


def unpack_losses(data: bytes) -> dict[int, Loss]:
    """Return what ``pack_losses`` packed, by item; raises struct.error when it is something else."""
    found: dict[int, Loss] = {}
    at = 0
    while at < len(data):
        item, status, length = _LOSS.unpack_from(data, at)
        at += _LOSS.size
        found[item] = Loss(item, status, data[at : at + length])
        at += length
    return found


def pack_report(report: Mapping[str, Any]) -> bytes:
    """Return what was found out about a process's end: values that JSON knows, under names."""
    return json.dumps(report).encode()


def pack_verdict(facts: Mapping[str, Any], report: bytes = b"", arguments: bytes = b"") -> bytes:
    """Return the three parts as bytes."""
    head = json.dumps(facts).encode()
    carried = arguments if len(arguments) <= MAX_ARGUMENT_BYTES else b""
    return b"".join((_LENGTHS.pack(len(head), len(report)), head, report, carried))


def unpack_verdict(data: bytes) -> Verdict:
    """Read what ``pack_verdict`` packed; raises ValueError or struct.error when it is something else."""
    head_bytes, report_bytes = _LENGTHS.unpack_from(data)
    report_at = _LENGTHS.size + head_bytes
    arguments_at = report_at + report_bytes
    report = json.loads(data[report_at:arguments_at]) if report_bytes else {}
    return Verdict(json.loads(data[_LENGTHS.size : report_at]), report, data[arguments_at:])
