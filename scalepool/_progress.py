"""Progress of a loop over references, or over anything else: what is under ``scalepool.progress``."""

from __future__ import annotations

import time
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, TypeVar

from scalepool._base.progress import ProgressMeter, progress_sink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scalepool._base.progress import Sink

__all__ = ["progress"]

T = TypeVar("T")


def progress(iterable: Iterable[T], *, total: int | None = None, show: Any = True) -> Iterator[T]:
    """Iterate, and show how far that is: ``for ref in progress(refs)``.

    References come in the order in which their values are there, as from ``as_completed``, and are counted as they
    come; those whose task has failed are counted as failed, too. Anything else comes as it is, and is counted when the
    loop asks for the next. Like ``tqdm``; Ray has an experimental ``tqdm_ray`` for use inside tasks.

    Parameters
    ----------
    iterable
        A list or another collection of references; or any iterable, such as an ObjectRefGenerator.
    total
        How many there will be; default its length, if it has one.
    show
        As ``progress=`` of the pools. ``True``: a bar of tqdm's where that is installed, else one line on stderr.
        ``"tqdm"``: a bar. A class of tqdm's makes the bar, and a bar of yours is moved on, and left open. A callable is
        called with ``(done, total, failed)``, at most ten times a second and once at the end. ``None``: nothing is
        shown.

    Raises
    ------
    TypeError
        When ``iterable`` cannot be iterated over, or ``show`` is none of these.
    ValueError
        When ``total`` is negative.
    """
    given: Any = total  # whatever the caller has written
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise ValueError(f"total must be an int, 0 or more, not {total!r}")
    sink = progress_sink(show)
    source: Iterable[T] = iterable
    waits = _holds_references(iterable)
    if waits:
        from scalepool.tasks import as_completed

        refs: list[Any] = list(dict.fromkeys(iterable))
        source = as_completed(refs)
        total = len(refs) if total is None else total
    elif total is None and isinstance(iterable, Sized):
        total = len(iterable)
    return _counted(iter(source), total, sink, waits=waits)


def _holds_references(iterable: object) -> bool:
    if not isinstance(iterable, (list, tuple, set, frozenset, dict)) or not iterable:
        return False
    from scalepool.tasks import ObjectRef

    return all(isinstance(one, ObjectRef) for one in iterable)


def _counted(source: Iterator[T], total: int | None, sink: Sink | None, *, waits: bool) -> Iterator[T]:
    meter = ProgressMeter(total, time.monotonic)
    try:
        for item in source:
            if waits:
                _show(sink, meter.advance(1, int(item._slot().status > 0)))  # type: ignore[attr-defined]
            yield item
            if not waits:
                _show(sink, meter.advance(1))
    finally:
        _show(sink, meter.finish())
        close = getattr(sink, "close", None)
        if close is not None:
            close()


def _show(sink: Sink | None, report: tuple[int, int | None, int] | None) -> None:
    if sink is not None and report is not None:
        sink(*report)
