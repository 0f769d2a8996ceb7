"""The group of all verbs; a verb's module is imported when it is used or listed."""

from __future__ import annotations

import importlib
import signal
from typing import TYPE_CHECKING, Any, Final

import click

import scalepool
from scalepool.cli.handover import Handover

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

__all__ = ["INTERRUPTED", "VERBS", "program", "run"]

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""

VERBS: Final[Mapping[str, str]] = {
    "bench": "scalepool.cli.bench:bench",
    "doctor": "scalepool.cli.doctor:doctor",
    "down": "scalepool.cli.status:down",
    "drain": "scalepool.cli.drain:drain",
    "head": "scalepool.cli.head:head",
    "keys": "scalepool.cli.keys:keys",
    "manifest": "scalepool.cli.manifest:manifest",
    "run": "scalepool.cli.run:run",
    "stack": "scalepool.cli.stack:stack",
    "status": "scalepool.cli.status:status",
    "up": "scalepool.cli.up:up",
    "worker": "scalepool.cli.worker:worker",
}
"""Each verb and where its command is."""
_INNER: Final[Mapping[str, str]] = {"steward": "scalepool.cli.steward:steward"}
"""The same for what only other verbs start."""


class _Verbs(click.Group):
    """Finds commands in `VERBS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = VERBS.get(cmd_name) or _INNER.get(cmd_name)
        if found is None:
            return None
        module, _, name = found.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click's own answer would be exit code 1
            ctx.exit(INTERRUPTED)


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(scalepool.__version__, package_name="scalepool", prog_name="scalepool")
def program() -> None:
    """Run code written for multiprocessing.Pool, ProcessPoolExecutor or joblib on one fast core."""


def run(arguments: Sequence[str] | None) -> int:
    """Run a verb, or the program that it hands over to; return the exit code."""
    before = signal.signal(signal.SIGTERM, _terminated)
    code: object = 0
    user_program: Handover | None = None
    try:
        program(arguments, prog_name="scalepool")
    except SystemExit as stop:  # click always leaves this way
        code = stop.code
    except Handover as handover:
        user_program = handover
    finally:
        signal.signal(signal.SIGTERM, before)
    if user_program is not None:
        return user_program.program.run(user_program.arguments)
    return code if isinstance(code, int) else int(code is not None)


def _terminated(number: int, _: FrameType | None) -> None:
    # Left alone the signal would end us at once, and what a verb has started would go on.
    raise SystemExit(128 + number)
