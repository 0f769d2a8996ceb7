"""What a worker leaves behind for the error that tells of its end: see ``FlightRecord.keep_words``.

The worker's side sets up where crashes are written down; the driver's side puts together what is found.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from scalepool._wire.verdict import pack_report

if TYPE_CHECKING:
    from scalepool._store.flight import FlightRecord

__all__ = ["report_of", "write_crashes_to"]

_WRITTEN: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTERM}
)
"""Ends that leave a stack."""
_MOST_LINES: Final = 60


def write_crashes_to(flight_fd: int) -> None:
    """Have ``faulthandler`` write down where each thread is when this process crashes, or is told to end."""
    import faulthandler

    from scalepool._store.flight import CRASH_OFFSET

    os.lseek(flight_fd, CRASH_OFFSET, os.SEEK_SET)
    faulthandler.enable(file=flight_fd, all_threads=True)
    # Only the thread that gets the signal, mostly the main one. The others run on meanwhile, and reading the frames of
    # a running thread may crash.
    faulthandler.register(signal.SIGTERM, file=flight_fd, all_threads=False, chain=True)

    def in_child() -> None:  # the end of a process that a task forks is not the worker's
        faulthandler.unregister(signal.SIGTERM)
        faulthandler.disable()

    os.register_at_fork(after_in_child=in_child)


def report_of(flight: FlightRecord | None, exitcode: int | None, peak_rss_bytes: int | None, oom: str) -> bytes:
    """Return the report of a worker's end, for ``WorkerExited``."""
    report: dict[str, object] = {"peak_rss_bytes": peak_rss_bytes, "oom": oom}
    if flight is not None:
        words, crash = flight.last_words()
        report["stderr"] = words.decode("utf-8", "replace").strip("\n")
        if exitcode is not None and -exitcode in _WRITTEN:
            report["stack"] = "\n".join(crash.decode("utf-8", "replace").strip().splitlines()[:_MOST_LINES])
    return pack_report({name: value for name, value in report.items() if value})
