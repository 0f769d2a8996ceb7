"""Workers of this host: forked from zygotes, one zygote for each setting of the numeric libraries' threads.

The engine starts, watches and kills processes on the hub's order and reports what became of them. Thread limits must be
in the environment before BLAS or OpenMP load, and a zygote has loaded them already, so each limit has its zygote; most
sessions need one.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

from scalepool._net.channel import carrier
from scalepool._proc.death import Event as ProcessEvent
from scalepool._proc.death import ForkFailed, ProcessWatcher, Started, ZygoteDied
from scalepool._proc.groups import state_of
from scalepool._proc.marked import MARK
from scalepool._proc.spawn import Zygote, ZygoteOptions, ZygoteSetup
from scalepool._runtime.spec import WorkerConfig, WorkerSpec
from scalepool._store.flight import FlightRecord
from scalepool.config import recycle_limit_bytes
from scalepool.errors import ScalepoolError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scalepool._proc.oom import OomWatch
    from scalepool._store.plan import StorePlan
    from scalepool.config import Settings

__all__ = ["LocalEngine", "WorkerFate"]

_OWN: Final = ("scalepool._shims.chunks", "scalepool._wire.pickling.rebuild")
"""What tasks ask for by name: what runs the chunks of a map, and what puts functions together that came by value."""
_COMMON: Final = (
    "argparse", "copy", "csv", "dataclasses", "datetime", "decimal", "fractions", "glob", "gzip", "hashlib", "inspect",
    "logging", "pathlib", "queue", "shutil", "statistics", "subprocess", "tempfile", "urllib.parse", "uuid",
)  # fmt: skip
"""Parts of the standard library that are loaded in the zygote when the driver has them loaded, for the modules of its
tasks then want them, too: a few milliseconds once, instead of one to two megabytes in each worker."""
_NUMERIC: Final = ("numpy", "pandas", "scipy", "sklearn", "joblib")
"""The same for what takes long to load: a worker then starts with them in 3 ms instead of 100."""
_NUMERIC_PARTS: Final = ("scipy", "sklearn")
"""Of these the public subpackages, too, which importing the package itself does not load."""


def worth_sharing(loaded: Sequence[str], *, numeric: bool) -> list[str]:
    """Return those of the driver's modules that a zygote should load before it forks; numeric ones only if asked."""
    there = set(loaded)
    found: list[str] = [name for name in _COMMON if name in there]
    if numeric:
        found += [name for name in _NUMERIC if name in there]
        for name in loaded:
            package, _, part = name.partition(".")
            if package in _NUMERIC_PARTS and part and "." not in part and not part.startswith("_"):
                found.append(name)
    return found


FDS_PER_WORKER: Final = 3
"""Descriptors of the driver for one worker: its pidfd, its socket and, before Python 3.13, its flight record."""
_FDS_OF_A_PROGRAM: Final = 24
"""Descriptors for the interpreter, the session and a few files of the user's."""
_FDS_OF_THE_STORE: Final = 64


def max_workers(soft_limit: int) -> int:
    """Return how many workers a driver that may open so many files can have, and still open some itself."""
    if soft_limit == resource.RLIM_INFINITY:
        return 1 << 30
    kept = _FDS_OF_A_PROGRAM + min(soft_limit // 4, _FDS_OF_THE_STORE)
    return max(1, (soft_limit - kept) // FDS_PER_WORKER)


class WorkerFate:
    """What the engine knows of one worker: its process and its flight record."""

    __slots__ = ("flight", "pid")

    def __init__(self, pid: int, flight: FlightRecord) -> None:
        self.pid = pid
        self.flight = flight

    @property
    def is_stopped(self) -> bool:
        """Whether the process was stopped, and waits for SIGCONT or a debugger."""
        return state_of(self.pid) in ("T", "t")


class LocalEngine:
    """Starts and ends the workers of one session on this host.

    Parameters
    ----------
    store
        How the session's store works; a zygote removes its directory when the driver dies.
    hub_address, token
        Where a worker finds the hub, and what it has to say there.
    settings
        The session's settings.
    on_event
        Called in the watcher's thread with what became of processes.
    first
        A zygote that has been started, and not set up, for whatever is asked for first.
    """

    def __init__(
        self,
        store: StorePlan,
        hub_address: str,
        token: str,
        settings: Settings,
        on_event: Callable[[ProcessEvent], None],
        first: Zygote | None = None,
    ) -> None:
        self._store = store
        self._hub_address = hub_address
        self._token = token
        share_bytes = recycle_limit_bytes(settings, os.cpu_count() or 1)
        self._for_workers = settings._replace(recycle_limit_bytes=share_bytes)
        self._on_event = on_event
        self._lock = threading.Lock()  # of what follows: pools are made in any thread, workers started in who pumps
        self._zygotes: dict[tuple[tuple[str, str], ...], Zygote] = {}
        self._closed = False
        self._started = 0
        self._spare: Zygote | None = None
        self._watcher = ProcessWatcher(self._watched)
        self._living: set[int] = set()
        self._max_workers = max_workers(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.fates: dict[int, WorkerFate] = {}
        self.gpus: Sequence[str] = ()
        """Names of the session's GPUs, by their numbers."""
        self.code = ""
        """Where workers ask for modules that this host may lack."""
        self._oom: OomWatch | None = None
        if first is not None:
            self._spare = first
            self._watcher.add(first)

    def prepare(self, limits: Mapping[str, str]) -> None:
        """Have the zygote that workers with these thread limits will need get ready, without waiting for it."""
        with self._lock:
            if not self._closed:
                self._zygote(limits)

    def start(
        self, worker: int, spec_bytes: bytes, gpus: Sequence[int] = (), objects: Sequence[int] = (), host: int = 0
    ) -> str | None:
        """Start a worker, which has ``gpus``, and needs ``objects`` of the store, four integers each; ``host`` is here.

        Returns why it could not be ordered, else ``None``; what follows comes as events.
        """
        spec = WorkerSpec.decode(spec_bytes)
        config = WorkerConfig(
            worker=worker,
            address=self._hub_address,
            token=self._token,
            settings=self._for_workers,
            spec=spec,
            store=self._store,
            gpus=[self.gpus[number] for number in gpus],
            objects=objects,
            code=self.code,
        )
        if len(self._living) >= self._max_workers:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"{self._max_workers} are all that {limit} open files per process allow (ulimit -n)"
        try:
            with self._lock:
                zygote = self._zygote(spec.limits)
            zygote.fork(worker, config.encode())
        except (OSError, ScalepoolError) as error:
            return str(error)
        self._living.add(worker)
        return None

    def kill(self, worker: int, *, force: bool) -> None:
        """Send SIGKILL, or SIGTERM without ``force``, to a worker and its children."""
        self._watcher.send_signal(worker, signal.SIGKILL if force else signal.SIGTERM, group=force)

    def revoke(self, worker: int, number: int) -> None:
        """Have a worker begin nothing that it holds; see the command Revoke."""
        fate = self.fates.get(worker)
        if fate is not None:
            fate.flight.revoke(number)

    @property
    def count(self) -> int:
        """How many workers there are, those to come among them."""
        return len(self._living)

    def is_running(self, task: int) -> bool:
        """Whether some worker's flight record says that it is in ``task``."""
        return any(task in fate.flight.running() for fate in list(self.fates.values()))

    def close(self) -> None:
        """End all workers and zygotes."""
        with self._lock:
            self._closed = True
            zygotes = [*self._zygotes.values(), *filter(None, [self._spare])]
            self._spare = None
            self._zygotes.clear()
        for zygote in zygotes:
            zygote.close()
        self._watcher.close()
        for fate in self.fates.values():
            fate.flight.close()
        self.fates.clear()

    def circumstances(self, worker: int, exitcode: int | None) -> tuple[int | None, str]:
        """Return the most memory that a worker that has ended ever had, and why we think that it was too much."""
        oom = self._oom.verdict() if exitcode == -signal.SIGKILL and self._oom is not None else ""
        return self._watcher.peaks_bytes.pop(worker, None), oom

    def said(self, worker: int) -> tuple[list[list[int]], bytes] | None:
        """Return what a worker that has ended wrote to its stdout and stderr last; see ``ending.tails``."""
        return self._watcher.said.pop(worker, None)

    def bury(self, worker: int) -> None:
        """Forget a worker that is gone."""
        self._living.discard(worker)
        fate = self.fates.pop(worker, None)
        if fate is not None:
            fate.flight.close()

    # ---- zygotes ----

    def _zygote(self, limits: Mapping[str, str]) -> Zygote:
        key = tuple(sorted(limits.items()))
        zygote = self._zygotes.get(key)
        if zygote is None or zygote.is_closing:
            zygote = self._take_spare()
            # With one thread per library a zygote stays single-threaded, and forking it is safe. With more, loading
            # them there would start their threads: such workers load them themselves.
            single = all(value == "1" for value in limits.values())
            wanted = (*_OWN, carrier(self._hub_address), *worth_sharing(list(sys.modules), numeric=single))
            directory = self._store.directory
            environ = {**limits, MARK: os.path.basename(directory)}  # noqa: PTH119 - pathlib is a heavy import
            zygote.set_up(ZygoteSetup(directory, wanted, environ))
            self._zygotes[key] = zygote
        return zygote

    def _take_spare(self) -> Zygote:
        zygote, self._spare = self._spare, None
        if zygote is None or zygote.is_closing:
            self._started += 1
            zygote = Zygote(ZygoteOptions(name=f"zygote-{self._started}"))
            self._watcher.add(zygote)
        return zygote

    def _watched(self, event: ProcessEvent) -> None:
        event_fd = event.flight_fd if isinstance(event, Started) else -1
        if isinstance(event, Started):
            if self._oom is None:
                from scalepool._proc.oom import OomWatch

                self._oom = OomWatch()  # here, since nobody waits for this thread
            try:
                self.fates[event.worker_id] = WorkerFate(event.pid, FlightRecord.attach(event.flight_fd))
            except StoreError as error:  # out of descriptors or address space: nobody could be blamed for its death
                self._watcher.send_signal(event.worker_id, signal.SIGKILL)
                event = ForkFailed(event.worker_id, str(error), 0)
            finally:
                os.close(event_fd)
        if isinstance(event, ForkFailed):
            self._living.discard(event.worker_id)
        elif isinstance(event, ZygoteDied):
            with self._lock:
                for key, zygote in list(self._zygotes.items()):
                    if zygote.name == event.zygote:
                        del self._zygotes[key]
        self._on_event(event)
