"""One task in the run table, and the rules by which its state may change."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.functions import FunctionRecord
    from scalepool._core.groups import Group
    from scalepool._wire.verdict import Loss

__all__ = ["PLAIN", "IllegalTransition", "KeptTask", "Task", "TaskState", "Terms"]


class Terms(NamedTuple):
    """What the owner of a task has agreed on with us.

    Attributes
    ----------
    max_retries
        How many more attempts it allows after the death of a worker that had started it.
    time_limit_s
        How long each attempt may take, from its start on, and each item of its input where it has many; 0: as long as
        it likes.
    losses
        Items of its input that are given up; the rest of it still runs.
    tried
        Items of its input that a worker has died of and that are tried again, once for each death.
    """

    max_retries: int = 0
    time_limit_s: float = 0.0
    losses: tuple[Loss, ...] = ()
    tried: tuple[int, ...] = ()


PLAIN: Final = Terms()


class TaskState(enum.Enum):
    """Where a task is."""

    WAITING = "waiting"  # for values that it needs
    QUEUED = "queued"  # in its group's ready queue
    ASSIGNED = "assigned"  # sent to a worker: started or not, only the worker's flight record knows
    ENDED = "ended"  # its owner has been told how it ended


# Looked up for every task: a name of the module costs a tenth of an attribute of an enum in Python 3.10.
_QUEUED: Final = TaskState.QUEUED
_ENDED: Final = TaskState.ENDED


class IllegalTransition(AssertionError):
    """The hub tried to move a task in a way that the table forbids: a bug of ours."""


class Task:
    """One submitted call. ``attempt`` counts assignments that ended with the worker's death."""

    returns = 0
    """How many values it makes; 0: nobody keeps them, the owner gets the result; negative: see ``streams``."""

    __slots__ = (
        "attempt",
        "cancelling",
        "function",
        "group",
        "id",
        "payload",
        "references",
        "state",
        "terms",
        "worker",
    )

    def __init__(
        self, task_id: int, group: Group, function: FunctionRecord, payload: bytes, references: Sequence[int]
    ) -> None:
        self.id = task_id
        self.group = group
        self.function = function
        self.payload = payload
        self.references = references
        self.terms = PLAIN
        self.attempt = 1
        self.worker = 0
        self.cancelling = False
        self.state = _QUEUED

    @property
    def owner(self) -> int:
        """The peer that submitted it."""
        return self.group.owner

    def move(self, state: TaskState, worker: int = 0) -> None:
        """Go to ``state``: from ended nowhere, from the others to any other.

        Raises
        ------
        IllegalTransition
            When that is forbidden; the task is left as it was.
        """
        if state is self.state or self.state is _ENDED:
            raise IllegalTransition(f"task {self.id} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.worker = worker

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.state.value} attempt={self.attempt} worker={self.worker}>"


class KeptTask(Task):
    """A task whose results are values that the hub keeps, and which may need values before it can start."""

    __slots__ = ("needs", "parent", "returns", "unmet")

    def __init__(
        self, task_id: int, group: Group, function: FunctionRecord, payload: bytes, references: Sequence[int]
    ) -> None:
        super().__init__(task_id, group, function, payload, references)
        self.returns = 1
        self.needs: Sequence[int] = ()
        self.unmet = 0
        """How many of its needs are pending."""
        self.parent = 0
        """The task that submitted it; 0: none."""

    @property
    def values(self) -> range:
        """The values that it makes; of a stream, its end and the right to read it."""
        returns = self.returns
        return range(self.id, self.id + (returns if returns > 0 else 2))
