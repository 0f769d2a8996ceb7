"""Looking at what a session does: where code runs, and when what has run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalepool._runtime.context import RuntimeContext
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import SessionError

if TYPE_CHECKING:
    import os

__all__ = ["RuntimeContext", "get_runtime_context", "timeline"]

_CONTEXT = RuntimeContext()


def get_runtime_context() -> RuntimeContext:
    """Return what tells where the calling code runs: task, attempt, actor, worker, node, session.

    Mirrors ``ray.get_runtime_context``. In a driver it starts the session if there is none, as every first use does.
    """
    return _CONTEXT


def timeline(path: str | os.PathLike[str] | None = None) -> list[dict[str, Any]] | None:
    """Return, or write to a file, when each task was queued, sent, run and reported.

    Mirrors ``ray.timeline``. The events are those of the Trace Event Format, which https://ui.perfetto.dev and
    ``chrome://tracing`` show. A session notes them from its start on when it is made by
    ``scalepool.init(timeline=True)`` or with ``SCALEPOOL_TIMELINE=1``; call this before it is shut down. Tasks of
    ``Pool``, executors and joblib are in it, too: a chunk of a ``map`` is one task.

    Parameters
    ----------
    path
        Where to write a JSON file; ``None``: the events are returned.

    Raises
    ------
    SessionError
        When there is no session, it does not note anything, or this is one of its workers.
    OSError
        When the file cannot be written.
    """
    session = existing()
    if not isinstance(session, DriverSession) or session.station.timeline is None:
        where = "a worker has no timeline: its driver has" if session is not None else "there is no session"
        if isinstance(session, DriverSession):
            where = "this session keeps no timeline"
        raise SessionError(
            f"{where}; call scalepool.init(timeline=True) before anything else, or set SCALEPOOL_TIMELINE=1"
        )
    events = session.station.timeline.events()
    if path is None:
        return events
    import json

    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
        json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)
    return None
