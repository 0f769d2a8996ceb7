"""What becomes of a task whose worker is gone: a pure verdict."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from scalepool._wire.messages import Status

if TYPE_CHECKING:
    from scalepool._core.task import Terms
    from scalepool._wire.verdict import Loss

__all__ = ["MAX_ATTEMPTS", "Verdict", "after_death", "without_item"]

MAX_ATTEMPTS = 60_000
"""A task whose worker died so often fails, whatever else is said: a record of a result has two bytes for the count."""


class Verdict(enum.Enum):
    """The three possible answers."""

    REQUEUE = "requeue"  # it had not started: run it elsewhere, nobody counts this
    RETRY = "retry"  # it had started, and its owner allows one more attempt
    FAIL = "fail"  # it had started, and may not run again


def after_death(*, started: bool, attempt: int, max_retries: int) -> Verdict:
    """Judge a task that its dead worker held.

    Parameters
    ----------
    started
        Whether the worker's flight record says that it was running.
    attempt
        The attempt that was lost, starting at 1.
    max_retries
        How many more attempts the owner allows after the first.
    """
    if not started:
        return Verdict.REQUEUE
    return Verdict.RETRY if attempt <= max_retries else Verdict.FAIL


def without_item(terms: Terms, loss: Loss) -> Terms | None:
    """Return the terms on which a task that has many items goes on when its worker has ended at one of them.

    That item is given up, or tried again if its worker died and retries are left. Those before it run again: their
    results died with the worker. ``None``: the task cannot go on, as it ended at an item that it was to leave out.
    """
    if any(lost.item == loss.item for lost in terms.losses):
        return None
    if loss.status == Status.WORKER_DIED and terms.tried.count(loss.item) < terms.max_retries:
        return terms._replace(tried=(*terms.tried, loss.item))
    return terms._replace(losses=(*terms.losses, loss))
