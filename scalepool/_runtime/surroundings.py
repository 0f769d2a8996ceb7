"""What a task finds around it: directory, environment, import path and levels of loggers of whoever submitted it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scalepool._base.gpus import VISIBLE
from scalepool._base.tuples import NamedTuple
from scalepool._proc.context import ProcessContext
from scalepool._runtime.spec import WorkerSpec
from scalepool.config import THREAD_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._wire import messages as m

__all__ = ["Surroundings"]


class _Surrounding(NamedTuple):
    context: bytes
    levels: Mapping[str, int]
    captures: bool
    amounts: Mapping[str, int]


class Surroundings:
    """What is set in this worker now, and what each group expects.

    Workers are shared, and a client may change its directory or environment between two pools: a task sees them as
    they were when its pool was made.

    Parameters
    ----------
    spec
        What the worker was started with; its context is set already, its levels are set here.

    Attributes
    ----------
    captures
        Whether what is printed now is for the future of the task.
    """

    __slots__ = ("_by_group", "_levels", "_limits", "_roots", "captures", "current")

    def __init__(self, spec: WorkerSpec) -> None:
        self.captures = False
        self.current = _Surrounding(spec.context, {}, False, spec.amounts)
        self._levels: Mapping[str, int] = {}
        self._roots: dict[int, int] = {}
        self._by_group: dict[int, _Surrounding] = {}
        # The client does not have these: they belong to the sort of worker.
        own = THREAD_VARIABLES if spec.gpus < 0 else (*THREAD_VARIABLES, VISIBLE)
        self._limits = {name: os.environ[name] for name in own if name in os.environ}
        self.restore(_Surrounding(spec.context, spec.levels, False, spec.amounts))

    def note(self, message: m.Enter) -> None:
        """Tasks of this group will come."""
        self._roots[message.group] = message.root
        spec = WorkerSpec.decode(message.spec)
        expected = _Surrounding(spec.context, spec.levels, spec.captures, spec.amounts)
        # Most groups of a client expect the same: it is kept once.
        self._by_group[message.group] = next((one for one in self._by_group.values() if one == expected), expected)

    def root_of(self, group: int) -> int:
        """The group at the top of the tree that ``group`` is in."""
        return self._roots.get(group, group)

    def amounts_of(self, group: int) -> Mapping[str, int]:
        """What a task of ``group`` holds of the session's resources, in units by name."""
        return self._by_group.get(group, self.current).amounts

    def enter(self, group: int) -> None:
        """A task of ``group`` begins."""
        self.restore(self._by_group.get(group, self.current))

    def restore(self, wanted: _Surrounding) -> None:
        """Set what ``wanted`` says unless it is set."""
        before = self.current
        if wanted is before:
            return
        self.current = wanted
        self.captures = wanted.captures
        if wanted.context != before.context:
            ProcessContext.decode(wanted.context).apply(self._limits)
        if wanted.levels != self._levels:
            from scalepool._runtime.logs import apply_levels

            apply_levels(wanted.levels, self._levels)
            self._levels = wanted.levels
