"""What becomes of a task whose worker is gone: a pure verdict."""

from __future__ import annotations

import enum

__all__ = ["Verdict", "after_death"]


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
