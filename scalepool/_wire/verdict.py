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
    from collections.abc import Mapping
    from typing import Any, Final

__all__ = ["MAX_ARGUMENT_BYTES", "Verdict", "pack_report", "pack_verdict", "unpack_verdict"]

_LENGTHS: Final = struct.Struct("<II")

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
