"""What a worker leaves behind for the error that tells of its end: see ``FlightRecord.keep_words``.

The worker's side sets up where crashes are written down; the driver's side puts together what is found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from scalepool._store.flight import passed
from scalepool._wire import messages as m
from scalepool._wire.verdict import pack_report

if TYPE_CHECKING:
    from scalepool._store.flight import FlightRecord

__all__ = ["Said", "last_output", "report_of", "write_crashes_to"]

_WRITTEN: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTERM}
)
"""Ends that leave a stack."""
_MOST_LINES: Final = 60
_MOST_BYTES: Final = 4096


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


Said = tuple[Sequence[Sequence[int]], bytes]
"""As the zygote tells it: (size, bytes told) of stdout and of stderr, and the ends of both."""


def last_output(flight: FlightRecord, said: Said, *, is_shown: bool) -> Iterator[m.Output]:
    """Yield what a worker that has ended wrote to its stdout and stderr and had not sent.

    Parameters
    ----------
    flight, said
        What is known of it.
    is_shown
        Whether anybody wants to see what is not captured for a task.
    """
    task = passed(flight)[2]
    if task or is_shown:
        for stream, text in zip((1, 2), _not_passed(flight, said), strict=True):
            if text:
                yield m.Output(stream, text.decode("utf-8", "backslashreplace").encode(), task)


def _not_passed(flight: FlightRecord, said: Said) -> tuple[bytes, bytes]:
    ((out_size, out_told), (err_size, err_told)), text = said
    out_passed, err_passed, _ = passed(flight)
    out, err = text[:out_told], text[out_told:]
    return out[_told_before(out_size, out_told, out_passed) :], err[_told_before(err_size, err_told, err_passed) :]


def _told_before(size: int, told: int, passed: int) -> int:
    """How many of the last ``told`` bytes of a file had been passed on; more than all where it was truncated since."""
    return max(0, told - (size - passed)) if passed <= size else 0


def report_of(
    flight: FlightRecord | None,
    exitcode: int | None,
    peak_rss_bytes: int | None,
    oom: str,
    said: Said | None = None,
) -> bytes:
    """Return the report of a worker's end, for ``WorkerExited``."""
    report: dict[str, object] = {"peak_rss_bytes": peak_rss_bytes, "oom": oom}
    if flight is not None:
        words, crash = flight.last_words()
        if said is not None:
            words += _not_passed(flight, said)[1][-_MOST_BYTES:]
        report["stderr"] = words.decode("utf-8", "replace").strip("\n")
        if exitcode is not None and -exitcode in _WRITTEN:
            report["stack"] = "\n".join(crash.decode("utf-8", "replace").strip().splitlines()[:_MOST_LINES])
    return pack_report({name: value for name, value in report.items() if value})
