"""Settings, CPU count and thread limits: what can be decided before anything starts.

`Settings` are merged by one pure function, `settings`, in this order, the later wins: defaults, ``SCALEPOOL_*``
environment variables (the field's name in capitals), arguments.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalepool._base.cpus import CpuCount, cpu_count

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["THREAD_VARIABLES", "CpuCount", "Settings", "cpu_count", "settings", "thread_limits"]

ENVIRONMENT_PREFIX = "SCALEPOOL_"

#: Variables that numeric libraries read when they load, to size their thread pools.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

# These libraries obey OMP_NUM_THREADS when their own variable is not set: a user who set only that one has decided
# for them too, so our default must not get in between.
_FOLLOW_OMP = frozenset({"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"})


def _setting(default: Any, *, minimum: float, maximum: float = math.inf) -> Any:
    return dataclasses.field(default=default, metadata={"minimum": minimum, "maximum": maximum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Tunables of one session. Units are in the names; every value is checked when the object is built.

    Attributes
    ----------
    num_cpus
        CPUs to plan with; ``None`` means `cpu_count`.
    inline_limit_bytes
        A buffer below this size travels inside its message, a larger one as a shared-memory segment.
    result_flush_count
        A worker sends its results when it has this many (or at the next tick, or when it has nothing left to do).
    tick_s
        Period of a worker's tick thread: the longest that a finished result waits, or a recall goes unanswered.
    idle_worker_s
        A shared worker without work ends after this long.
    start_timeout_s
        How long a worker may take from its fork to its first message.
    outstanding_limit_bytes
        Submitting blocks while this many bytes of arguments are unfinished (backpressure).
    recycle_limit_bytes
        Freed shared memory that is kept for the next object of its size.
    """

    num_cpus: int | None = _setting(None, minimum=1)
    inline_limit_bytes: int = _setting(65_536, minimum=0)
    result_flush_count: int = _setting(64, minimum=1)
    tick_s: float = _setting(0.003, minimum=0.0001, maximum=10.0)
    idle_worker_s: float = _setting(30.0, minimum=0.0)
    start_timeout_s: float = _setting(60.0, minimum=0.1)
    outstanding_limit_bytes: int = _setting(256 * 2**20, minimum=1)
    recycle_limit_bytes: int = _setting(256 * 2**20, minimum=0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name), field.name)


def settings(arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Merge defaults, environment and arguments.

    Parameters
    ----------
    arguments
        Values by field name; a value of ``None`` means "not given".
    environ
        Environment variables; ``None`` means those of this process.

    Raises
    ------
    TypeError
        An argument that is no setting, or of a wrong type.
    ValueError
        A number out of range, or a variable that is no number; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    merged: dict[str, Any] = {}
    for name, field in fields.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(variable, "").strip():  # set but empty is how shells and YAML say "not set"
            merged[name] = _parse(field, environ[variable], variable)
    for name, value in (arguments or {}).items():
        if name not in fields:
            raise TypeError(f"unknown setting {name!r}; known are {', '.join(fields)}")
        if value is not None:
            merged[name] = value
    return Settings(**merged)


def thread_limits(
    cpus: int, workers: int, environ: Mapping[str, str] | None = None, *, threads: int | None = None
) -> dict[str, str]:
    """Return the variables to set before a worker's numeric libraries load, so that processes times threads fits.

    Parameters
    ----------
    cpus
        CPUs that all workers share.
    workers
        Number of workers on this host.
    environ
        The user's environment; ``None`` means that of this process. A variable in it is left alone.
    threads
        Threads per worker that the caller asked for (``inner_max_num_threads``); this beats the environment, as an
        argument does everywhere. ``None``: ``max(1, cpus // workers)``.

    Returns
    -------
    dict
        Only what has to be added or changed.
    """
    if threads is not None:
        return dict.fromkeys(THREAD_VARIABLES, str(max(1, threads)))
    environ = os.environ if environ is None else environ
    default = str(max(1, cpus // max(1, workers)))
    omp = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" limits nested levels: the first counts
    limits: dict[str, str] = {}
    for name in THREAD_VARIABLES:
        if name not in environ:
            limits[name] = omp if omp and name in _FOLLOW_OMP else default
    return limits


def _parse(field: dataclasses.Field[Any], text: str, variable: str) -> int | float:
    kind = int if _is_whole(field) else float
    try:
        value = kind(text.strip())
    except ValueError:
        raise ValueError(f"{variable}={text!r} is not {_noun(field)}") from None
    _check(field, value, variable)
    return value


def _check(field: dataclasses.Field[Any], value: object, name: str) -> None:
    if value is None and field.default is None:
        return
    allowed = int if _is_whole(field) else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise TypeError(f"{name} must be {_noun(field)}, not {value!r}")
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if not low <= value <= high:  # also refuses nan
        bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise ValueError(f"{name} must be {bounds}, not {value!r}")


def _is_whole(field: dataclasses.Field[Any]) -> bool:
    return not isinstance(field.default, float)


def _noun(field: dataclasses.Field[Any]) -> str:
    return "a whole number" if _is_whole(field) else "a number of seconds"
