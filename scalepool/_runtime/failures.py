"""What the owner of a task is told when it has not returned: errors out of what came over the wire."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from scalepool._base.ids import peer_of
from scalepool._wire.messages import Status
from scalepool._wire.pickling.exceptions import decode_exception
from scalepool._wire.verdict import unpack_verdict
from scalepool.errors import ActorDiedError, ActorUnavailableError, ObjectLostError, PostMortem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalepool._store.files import SegmentLost
    from scalepool._wire.verdict import Verdict
    from scalepool.errors import ActorError, InitializerError, TaskCancelledError, TaskTimeoutError, WorkerDiedError

__all__ = ["GroupErrors", "error_of", "lost"]

_PICKLE: Final = b"\x80"
_CAUSES: Final = frozenset(
    {Status.ERROR, Status.WORKER_DIED, Status.TIMED_OUT, Status.ACTOR_DIED, Status.ACTOR_UNAVAILABLE}
)
_REPORTED: Final = ("peak_rss_bytes", "oom", "stderr", "stack")


class GroupErrors(Protocol):
    """The classes that a group's errors are to have; see ``api.ErrorTypes``."""

    worker_died: type[WorkerDiedError]
    timed_out: type[TaskTimeoutError]
    initializer_failed: type[InitializerError]
    terminated: type[TaskCancelledError]
    remote_traceback: Callable[[], type[Any]]


def error_of(errors: GroupErrors, name: str, status: int, data: bytes) -> BaseException:
    """Return the error of a task of the function ``name`` that ended as ``status``; raises what loading it raises."""
    if status == Status.ERROR:
        raised = decode_exception(data, errors.remote_traceback())
        if type(raised) is ObjectLostError and not raised.task:
            raised.task = name  # its worker did not know that
        return raised
    if status == Status.INITIALIZER_FAILED:
        return _initializer_failed(errors, data)
    verdict = unpack_verdict(data)
    facts = verdict.facts
    if status in (Status.ACTOR_DIED, Status.ACTOR_UNAVAILABLE):
        return _actor_died(errors, name, status, verdict)
    if status == Status.INITIALIZER_TIMED_OUT:
        return _initializer_timed_out(errors, facts, verdict)
    host = os.uname().nodename
    known = _post_mortem(verdict)
    if status == Status.TIMED_OUT:
        limit_s = facts["limit_s"]
        return errors.timed_out(
            task=name, timeout_s=limit_s, pid=facts["pid"], attempt=facts["attempt"], host=host, post_mortem=known
        )
    return errors.worker_died(
        task=name,
        pid=facts["pid"],
        exitcode=facts["exitcode"],
        attempt=facts["attempt"],
        host=host,
        post_mortem=known,
    )


def lost(error: SegmentLost, what: str, name: str = "") -> ObjectLostError:
    """Return the error of a call of ``name``, ``what`` of which cannot be read any more."""
    worker, host = peer_of(error.object_id), os.uname().nodename
    maker = f"worker {worker}" if worker else "the driver"
    whole = ObjectLostError(
        f"{what} is lost: what {maker} had made on host {host} cannot be read any more ({error}), and nobody keeps "
        "what it takes to make it again; call it once more"
    )
    whole.task, whole.host = name, host
    whole.__cause__ = error
    return whole


def _actor_died(errors: GroupErrors, name: str, status: int, verdict: Verdict) -> ActorError:
    facts = verdict.facts
    cause = facts["cause"]
    known = _post_mortem(verdict._replace(arguments=b"") if cause else verdict)
    error = (ActorDiedError if status == Status.ACTOR_DIED else ActorUnavailableError)(
        task=name,
        pid=facts["pid"],
        exitcode=facts["exitcode"],
        attempt=facts["attempt"],
        host=os.uname().nodename,
        post_mortem=known,
    )
    error.actor_class, error.actor_name, error.restarts = facts["actor"], facts["name"], facts["restarts"]
    error.actor_number = facts["number"]
    # A large one lies in objects, which are gone by now.
    if cause in _CAUSES and (cause != Status.ERROR or verdict.arguments[:1] == _PICKLE):
        error.__cause__ = raised = error_of(errors, name, cause, verdict.arguments)
        error.note(reason=f"{facts['reason']}: {type(raised).__name__}: {raised}")
    return error


def _post_mortem(verdict: Verdict) -> PostMortem:
    from scalepool._runtime.packing import pickle_of
    from scalepool._wire.pickling.peek import short_call

    report: Mapping[str, Any] = verdict.report
    found = {name: report[name] for name in _REPORTED if report.get(name)}
    item = verdict.facts.get("item", 0)
    arguments = short_call(pickle_of(verdict.arguments), item) if verdict.arguments else ""
    return PostMortem(
        item=item - 1 if item > 0 else None, arguments=arguments, reason=verdict.facts.get("reason", ""), **found
    )


def _initializer_failed(errors: GroupErrors, data: bytes) -> InitializerError:
    cause = decode_exception(data, errors.remote_traceback())
    error = errors.initializer_failed(f"the initializer raised {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error


def _initializer_timed_out(errors: GroupErrors, facts: Mapping[str, Any], verdict: Verdict) -> InitializerError:
    known = _post_mortem(verdict)
    return errors.initializer_failed(
        f"the initializer did not end within initializer_timeout={facts['limit_s']:g} seconds in worker "
        f"{facts['pid']}, which was stopped{known.lines()}"
    )
