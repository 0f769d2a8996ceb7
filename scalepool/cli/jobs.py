"""Job scripts of batch systems: templates with holes, and how they are submitted."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool.cli.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scalepool.cli.targets import Batch

__all__ = ["SYSTEMS", "System", "exports", "fill", "job_id", "script", "template"]

_HOLE: Final = re.compile(r"\{\{(?:\?(?P<prefix>[^|{}]*)\|)?(?P<name>[a-z_]+)\}\}")
_OPTION: Final = "{{option}}"


class System(NamedTuple):
    """How a batch system is spoken to.

    Attributes
    ----------
    submit
        Its command; it gets the script's path, or with ``fed`` the script itself on its standard input.
    cancel
        The command that ends a job.
    job_id
        Where in what ``submit`` says the job's number is.
    per_job
        Whether one job is all hosts; else there is a job for each.
    joint
        What is between an option's name and its value; what the name is preceded by is in the template.
    log
        The name of a job's log in a folder.
    """

    submit: tuple[str, ...]
    cancel: str
    job_id: str
    per_job: bool
    fed: bool
    joint: str
    log: str


SYSTEMS: Final[Mapping[str, System]] = {
    "slurm": System(("sbatch", "--parsable"), "scancel", r"^(\d+)", True, False, "=", "slurm-%j.log"),
    "pbs": System(("qsub",), "qdel", r"^(\S+)", False, False, " ", ""),
    "lsf": System(("bsub",), "bkill", r"<(\d+)>", False, True, " ", "lsf-%J.log"),
}


def template(system: str) -> str:
    """Return the job script of a system, with holes."""
    return resources.files("scalepool.cli").joinpath("templates").joinpath(f"{system}.sh").read_text(encoding="utf-8")


def fill(text: str, values: Mapping[str, str], options: Sequence[str]) -> str:
    """Fill the holes of a template.

    ``{{name}}`` is replaced by the value of that name; a line with one that has no value is left out.
    ``{{?prefix|name}}`` is prefix and value, or nothing at all. A line with ``{{option}}`` is there once for each of
    ``options``.

    Raises
    ------
    TargetError
        When the template has a hole of a name that nobody knows, or options have no place in it.
    """
    if options and _OPTION not in text:
        raise TargetError(f"the template has no line with {_OPTION}, where {options[0]!r} could stand")
    return "".join(_filled(text, values, options))


def _filled(text: str, values: Mapping[str, str], options: Sequence[str]) -> Iterator[str]:
    for line in text.splitlines(keepends=True):
        versions = [values]
        if _OPTION in line:
            versions = [{**values, "option": option} for option in options]
        for known in versions:
            filled = _line(line, known)
            if filled is not None:
                yield filled


def _line(line: str, values: Mapping[str, str]) -> str | None:
    lacking = False

    def value(match: re.Match[str]) -> str:
        nonlocal lacking
        found = values.get(match["name"])
        if found is None:
            raise TargetError(f"the template has a hole named {match['name']!r}; there are {', '.join(sorted(values))}")
        if match["prefix"] is not None:
            return match["prefix"] + found if found else ""
        lacking = lacking or not found
        return found

    filled = _HOLE.sub(value, line)
    return None if lacking else filled


def script(text: str, wanted: Batch, values: Mapping[str, str]) -> str:
    """Return the job script for what is wanted; ``values`` are ``address, command, environment, log, prologue``."""
    system = SYSTEMS[wanted.system]
    empty = dict.fromkeys(("account", "cpus", "gpus", "mem", "queue", "time"), "")
    every = {**empty, "name": "scalepool", "nodes": str(wanted.nodes), **values, **wanted.known}
    options = [key + (system.joint + value if value else "") for key, value in wanted.others]
    return fill(text, every, options)


def exports(environment: Mapping[str, str]) -> str:
    """Return lines of shell that set these variables."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def job_id(system: str, said: str) -> str:
    """Return the number of the job that a submit command has told; empty where it has not."""
    match = re.search(SYSTEMS[system].job_id, said.strip(), re.MULTILINE)
    return match[1] if match else ""
