"""Messages about tasks that a worker holds and has not begun: they are asked back, or taken back, and come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from scalepool._base.tuples import NamedTuple

__all__ = ["CancelTasks", "Recall", "Returned", "Revoke"]

Ints: TypeAlias = Sequence[int]


class Recall(NamedTuple):
    """Give back up to ``number`` tasks that have not started, newest first."""

    number: int


class Revoke(NamedTuple):
    """All tasks that were sent before this are taken back, but for those that have begun; see ``_core.revoking``.

    ``number`` counts such messages to this worker. It stands in the worker's flight record, too, and there earlier.
    """

    number: int


class CancelTasks(NamedTuple):
    """Give back those of ``tasks`` that have not started."""

    tasks: Ints


class Returned(NamedTuple):
    """Tasks that the worker gives back unstarted; ``kept`` are those asked for that had started.

    ``revocation``: the number of the Revoke that this answers; 0: it answers none.
    """

    tasks: Ints
    kept: Ints
    revocation: int = 0
