"""The working directory, environment and import path in which a task runs: those of whoever submitted it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scalepool._proc.context import ProcessContext
from scalepool._runtime.spec import WorkerSpec
from scalepool.config import THREAD_VARIABLES

if TYPE_CHECKING:
    from scalepool._wire import messages as m

__all__ = ["Surroundings"]


class Surroundings:
    """What is set in this worker now, and what each group expects.

    Workers are shared, and a client may change its directory or environment between two pools: a task sees them as
    they were when its pool was made.

    Parameters
    ----------
    context
        What the worker was started with, encoded.
    """

    __slots__ = ("_by_group", "_contexts", "_limits", "current")

    def __init__(self, context: bytes) -> None:
        self.current = context
        self._by_group: dict[int, bytes] = {}
        self._contexts: dict[bytes, bytes] = {}  # most groups of a client have equal ones: each is kept once
        # The client does not have these: they belong to the sort of worker.
        self._limits = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}

    def note(self, message: m.Enter) -> None:
        """Tasks of this group will come."""
        context = WorkerSpec.decode(message.spec).context
        self._by_group[message.group] = self._contexts.setdefault(context, context)

    def enter(self, group: int) -> None:
        """A task of ``group`` begins."""
        self.restore(self._by_group.get(group, self.current))

    def restore(self, context: bytes) -> None:
        """Set what ``context`` says unless it is set."""
        if context != self.current:
            self.current = context
            ProcessContext.decode(context).apply(self._limits)
