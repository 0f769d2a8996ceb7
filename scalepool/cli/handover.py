"""How a verb says that the process now belongs to a user's program, with nothing of ours around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool.cli.script import Program

__all__ = ["Handover"]


class Handover(Exception):
    """Raised by a verb: leave the command line, handlers of signals restored, and run ``program``."""

    def __init__(self, program: Program, arguments: Sequence[str]) -> None:
        super().__init__("a program is to run")
        self.program = program
        self.arguments = arguments
