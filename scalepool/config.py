"""Settings, CPU count and thread limits: what can be decided before anything starts.

`Settings` are merged by one pure function, `settings`, in this order, the later wins: defaults, ``SCALEPOOL_*``
environment variables (the field's name in capitals), arguments.
"""

from __future__ import annotations

import os

from scalepool._base.amounts import json_text, resource_text
from scalepool._base.cpus import CpuCount, cpu_count
from scalepool._base.memory import memory_bytes
from scalepool._base.sizes import size_bytes
from scalepool._base.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from typing_extensions import Self

__all__ = [
    "THREAD_VARIABLES",
    "CpuCount",
    "Settings",
    "cpu_count",
    "recycle_limit_bytes",
    "settings",
    "store_limit_bytes",
    "thread_limits",
]

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


_INFINITE = float("inf")

_INLINE_LIMIT_MAX_BYTES = 512 * 1024
"""Half of a worker's flight record: what travels inside a message must fit there, or it would die with its worker."""


class _Values(NamedTuple):
    num_cpus: int | None = None
    inline_limit_bytes: int = 65_536
    result_flush_count: int = 512
    tick_s: float = 0.003
    idle_worker_s: float = 30.0
    start_timeout_s: float = 60.0
    outstanding_limit_bytes: int = 256 * 2**20
    recycle_limit_bytes: int | None = None
    transport: str = "unix"
    max_worker_rss: int | None = None
    worker_output: str = "auto"
    store_limit_bytes: int | None = None
    spill_limit_bytes: int | None = None
    spill_dir: str = ""
    store_files: str = "auto"
    num_gpus: int | None = None
    memory: int | None = None
    resources: str = ""
    labels: str = ""
    namespace: str = ""
    store_access: str = "auto"
    timeline: int = 0
    lineage_limit_bytes: int = 64 << 20
    code_limit_bytes: int = 64 << 20
    reconnect_s: float = 30.0


# Smallest and largest value of each.
_RANGES: dict[str, tuple[float, float]] = {
    "num_cpus": (1, _INFINITE),
    "inline_limit_bytes": (0, _INLINE_LIMIT_MAX_BYTES),
    "result_flush_count": (1, _INFINITE),
    "tick_s": (0.0001, 10.0),
    "idle_worker_s": (0.0, _INFINITE),
    "start_timeout_s": (0.1, _INFINITE),
    "outstanding_limit_bytes": (1, _INFINITE),
    "recycle_limit_bytes": (0, _INFINITE),
    "store_limit_bytes": (0, _INFINITE),
    "spill_limit_bytes": (0, _INFINITE),
    "max_worker_rss": (1, _INFINITE),
    "num_gpus": (0, _INFINITE),
    "memory": (0, _INFINITE),
    "timeline": (0, 10_000_000),
    "lineage_limit_bytes": (0, _INFINITE),
    "code_limit_bytes": (0, _INFINITE),
    "reconnect_s": (0.0, _INFINITE),
}

# Sizes that may be written as text with a unit.
_SIZES = frozenset({
    "max_worker_rss", "store_limit_bytes", "spill_limit_bytes", "memory", "lineage_limit_bytes", "code_limit_bytes",
})  # fmt: skip

# What is a dict to users, and a text in here.
_DICTS = {"resources": resource_text, "labels": json_text}

# What a text may be; any, where it is not listed.
_CHOICES: dict[str, tuple[str, ...]] = {
    "transport": ("unix", "ipc"),
    "worker_output": ("auto", "fold", "plain", "off"),
    "store_files": ("auto", "memfd", "file"),
    "store_access": ("auto", "proc", "fds"),
}


class Settings(_Values):
    """Tunables of one session. Units are in the names; every value is checked when the object is built.

    Attributes
    ----------
    num_cpus
        CPUs to plan with; ``None`` means `cpu_count`.
    inline_limit_bytes
        A buffer below this size travels inside its message, a larger one as a shared-memory segment. At most 512 KiB.
    result_flush_count
        A worker sends its results when it has this many (or at the next tick, or when it has nothing left to do).
    tick_s
        Shortest period of a worker's tick thread, while a task runs: so long a finished result waits, or a recall goes
        unanswered. Where all was quiet for long it is a twentieth of that time, at most 30 ms.
    idle_worker_s
        A shared worker without work ends after this long.
    start_timeout_s
        How long a worker may take from its fork to its first message.
    outstanding_limit_bytes
        Submitting blocks while this many bytes of arguments are unfinished (backpressure).
    recycle_limit_bytes
        Freed shared memory that a process keeps some seconds for the next object of its size; ``None`` means
        `recycle_limit_bytes`.
    transport
        What carries messages between the processes of this host: ``"unix"`` for plain Unix sockets, ``"ipc"`` for
        ZeroMQ's, which take three times as long there and back.
    max_worker_rss
        Bytes, or a text such as ``"2GB"``: a worker that has more memory to itself after a task is replaced. ``None``:
        none is.
    worker_output
        What becomes of what workers print and log: ``"auto"`` shows it, and folds lines that repeat fast on stderr, and
        on stdout where that is a terminal or a notebook; ``"fold"`` folds on both, ``"plain"`` on neither; ``"off"``
        shows nothing.
    store_limit_bytes
        Shared memory that all large arguments and results of the session may take together; ``None`` means
        `store_limit_bytes`. What does not fit is spilled to files.
    spill_limit_bytes
        Disk that spilled objects may take; ``None``: half of what is free. 0: nothing is spilled.
    spill_dir
        Folder for spilled objects, which have no names there; empty: the user's folder for temporary files.
    store_files
        ``"memfd"``: segments are nameless shared memory; ``"file"``: nameless files in the session's directory;
        ``"auto"``: memfd where the system has it.
    num_gpus
        GPUs that remote functions and actors may ask for; ``None``: those that this process may see.
    memory
        Bytes, or a text such as ``"16GB"``, that they may ask for together; ``None``: 70 % of the memory.
    resources
        What else they may ask for: a dict of names and numbers, or text such as ``"license=2,disk=0.5"``.
    labels
        What `nodes` says of this node: a dict of texts.
    namespace
        Where actors with a name are looked for.
    store_access
        ``"proc"``: processes open each other's segments through /proc/PID/fd; ``"fds"``: descriptors are passed over a
        socket; ``"auto"``: through /proc where that is allowed.
    timeline
        1 (or True): the last 100 000 tasks are remembered for `timeline`; a larger number: so many. 0: none.
    lineage_limit_bytes
        What may be kept of tasks with ``max_retries``, and of their arguments, to make lost values again; 0: nothing.
    code_limit_bytes
        What a module or package of your own may take that is sent to hosts of a cluster which lack it.
    reconnect_s
        On a cluster: how long to try to reach its head again when the link is cut. Work goes on meanwhile; after that
        it fails.
    """

    __slots__ = ()

    def __new__(cls, **values: Any) -> Self:
        """Return settings with these values and defaults for the rest."""
        self = super().__new__(cls, **values)
        for name, value in zip(self._fields, self, strict=True):
            _check(name, value, name)
        return self


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
    merged: dict[str, Any] = {}
    for name in Settings._fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(variable, "").strip():  # set but empty is how shells and YAML say "not set"
            merged[name] = _parse(name, environ[variable], variable)
    for name, value in (arguments or {}).items():
        if name not in Settings._fields:
            raise TypeError(f"unknown setting {name!r}; known are {', '.join(Settings._fields)}")
        if value is not None:
            merged[name] = _from_argument(name, value)
    return Settings(**merged)


def _from_argument(name: str, value: Any) -> Any:
    if name in _DICTS:
        return _DICTS[name](value, name)
    if name == "timeline" and isinstance(value, bool):
        return int(value)
    return size_bytes(value, name) if name in _SIZES and value != 0 else value


def recycle_limit_bytes(own: Settings, sharers: int = 1) -> int:
    """Return how much freed shared memory a process may keep: as set, else a quarter of the memory among `sharers`.

    Writing into memory that is kept is six times faster than into fresh memory, and it is given back after some seconds
    without use; so the default is generous, and for small machines at least 256 MiB.
    """
    if own.recycle_limit_bytes is not None:
        return own.recycle_limit_bytes
    sharers = max(sharers, 1)
    kept = max(memory_bytes() // 4 // sharers, 256 * 2**20)
    # Of a budget that was set, what is kept must leave the larger part to objects that are alive.
    return kept if own.store_limit_bytes is None else min(kept, own.store_limit_bytes // 4 // sharers)


def store_limit_bytes(own: Settings) -> int:
    """Return how much shared memory the objects of a session may take: as set, else half of the memory.

    Memory is what the machine has, or less where a cgroup sets a limit.
    """
    return own.store_limit_bytes if own.store_limit_bytes is not None else memory_bytes() // 2


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


def _parse(name: str, text: str, variable: str) -> int | float | str:
    if name in _DICTS:
        return _DICTS[name](text, variable)
    if _is_text(name):
        _check(name, text.strip(), variable)
        return text.strip()
    if name in _SIZES and text.strip() != "0":
        return size_bytes(text, variable)
    kind = int if _is_whole(name) else float
    try:
        value = kind(text.strip())
    except ValueError:
        raise ValueError(f"{variable}={text!r} is not {_noun(name)}") from None
    _check(name, value, variable)
    return value


def _check(name: str, value: object, label: str) -> None:
    if value is None and Settings._field_defaults[name] is None:
        return
    if _is_text(name):
        _check_text(name, value, label)
        return
    allowed = int if _is_whole(name) else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise TypeError(f"{label} must be {_noun(name)}, not {value!r}")
    low, high = _RANGES[name]
    if not low <= value <= high:  # also refuses nan
        bounds = f"at least {low}" if high == _INFINITE else f"between {low} and {high}"
        raise ValueError(f"{label} must be {bounds}, not {value!r}")


def _check_text(name: str, value: object, label: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{label} must be text, not {value!r}")
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise ValueError(f"{label} must be one of {', '.join(choices)}, not {value!r}")


def _is_text(name: str) -> bool:
    return isinstance(Settings._field_defaults[name], str)


def _is_whole(name: str) -> bool:
    return not isinstance(Settings._field_defaults[name], float)


def _noun(name: str) -> str:
    return "a whole number" if _is_whole(name) else "a number of seconds"
