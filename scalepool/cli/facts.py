"""What ``scalepool doctor`` finds out about the machine; what it makes of it is in `checks`."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import resource
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scalepool import api
from scalepool._base.memory import memory_bytes
from scalepool._runtime.session_dir import folder_root
from scalepool._store.files import anonymous_file, memfds_work
from scalepool.config import cpu_count
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Facts", "gather", "try_out"]

PACKAGES: Final = ("pyzmq", "cloudpickle", "joblib", "psutil", "numpy")
_MODULES: Final = {"pyzmq": "zmq"}
"""Of those packages whose modules are called otherwise."""
_UNLIMITED: Final = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine and interpreter. Limits are None where there is none, sizes where they cannot be told.

    Attributes
    ----------
    cpus, cpus_reason, machine_cpus
        CPUs that would be used, why so many, and how many the machine has.
    memory_bytes, physical_bytes
        What may be used, and what the machine has.
    nofile, nofile_hard, nproc, address_space_bytes, memlock_bytes
        Limits of this process.
    processes
        Processes and threads of this user.
    pids_left
        What the container allows beyond those that run.
    shm_bytes, shm_error
        Size of ``/dev/shm``, and why it cannot be used, or empty.
    has_memfd, memfd_error
        Whether shared memory without a path can be had, else why not, or why none can at all.
    proc_error, pidfd_error
        Why processes cannot be looked at or watched, or empty.
    temporary, temporary_free_bytes, temporary_error
        Where the session's folder would be, what is free there, and why it cannot be made, or empty.
    temporary_wanted
        What TMPDIR says, where that cannot be used.
    versions, import_errors
        Of the packages that it needs; None for one that is absent, and why one that is there cannot be loaded.
    python, system
        Their names and versions.
    """

    cpus: int = 1
    cpus_reason: str = ""
    machine_cpus: int = 1
    memory_bytes: int = 0
    physical_bytes: int = 0
    nofile: int | None = None
    nofile_hard: int | None = None
    nproc: int | None = None
    processes: int = 0
    pids_left: int | None = None
    address_space_bytes: int | None = None
    memlock_bytes: int | None = None
    shm_bytes: int | None = None
    shm_error: str = ""
    has_memfd: bool = True
    memfd_error: str = ""
    proc_error: str = ""
    pidfd_error: str = ""
    temporary: str = ""
    temporary_free_bytes: int | None = None
    temporary_error: str = ""
    temporary_wanted: str = ""
    versions: dict[str, str | None] = field(default_factory=dict)
    import_errors: dict[str, str] = field(default_factory=dict)
    python: tuple[int, int, int] = (3, 11, 0)
    system: str = ""


def gather() -> Facts:
    """Look at this machine; starts nothing."""
    cpus = cpu_count()
    nofile, nofile_hard = (_limit(value) for value in resource.getrlimit(resource.RLIMIT_NOFILE))
    root, free, root_error = _temporary()
    versions = {name: _version(name) for name in PACKAGES}
    import_errors = {name: _import_error(_MODULES.get(name, name)) for name, version in versions.items() if version}
    return Facts(
        cpus=cpus.count,
        cpus_reason=cpus.reason,
        machine_cpus=os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        physical_bytes=memory_bytes(root="/nonexistent"),
        nofile=nofile,
        nofile_hard=nofile_hard,
        nproc=_limit(resource.getrlimit(resource.RLIMIT_NPROC)[0]),
        processes=_own_tasks(),
        pids_left=_pids_left(),
        address_space_bytes=_limit(resource.getrlimit(resource.RLIMIT_AS)[0]),
        memlock_bytes=_limit(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]),
        shm_bytes=_size_of("/dev/shm"),
        shm_error=_why_not(lambda: _use_folder("/dev/shm")),
        has_memfd=memfds_work(),
        memfd_error=_why_not(_make_memory),
        proc_error=_why_not(lambda: os.listdir("/proc/self/fd")),  # noqa: PTH208 - Path would do it lazily
        pidfd_error=_why_not(lambda: os.close(os.pidfd_open(os.getpid()))),
        temporary=root,
        temporary_free_bytes=free,
        temporary_error=root_error,
        temporary_wanted=_refused(root),
        versions=versions,
        import_errors={name: error for name, error in import_errors.items() if error},
        python=sys.version_info[:3],
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
    )


def try_out(timeout_s: float) -> tuple[float, str]:
    """Run a few calls in two workers, small and large; return the seconds that took, and what went wrong or empty."""
    began = time.monotonic()
    block = b"scalepool" * 120_000
    try:
        api.init(address="local")  # whatever SCALEPOOL_ADDRESS says: this is about this machine
        group = api.WorkerGroup(2)
        numbers = [group.submit(abs, (-number,)) for number in range(50)]
        large = group.submit(bytes, (block,))
        if [future.result(timeout_s) for future in numbers] != list(range(50)) or large.result(timeout_s) != block:
            return time.monotonic() - began, "wrong results"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return time.monotonic() - began, f"{type(error).__name__}: {error}"
    finally:
        api.shutdown()
    return time.monotonic() - began, ""


def _limit(value: int) -> int | None:
    return None if value == _UNLIMITED else value


def _why_not(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, AttributeError, StoreError) as error:
        return str(error) or type(error).__name__
    return ""


def _use_folder(path: str) -> None:
    """Raise what keeps this user from having files there."""
    with tempfile.TemporaryFile(dir=path):
        pass


def _refused(root: str) -> str:
    """Return what TMPDIR says, unless that is what is used."""
    wanted = os.environ.get("TMPDIR", "")
    return wanted if wanted and os.path.abspath(wanted) != root else ""  # noqa: PTH100 - as folder_root has it


def _import_error(module: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's of a machine without /dev/shm: that is a finding of its own
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            return f"{type(error).__name__}: {error}"
    return ""


def _make_memory() -> None:
    os.close(anonymous_file("scalepool-doctor", 1 << 16))


def _own_tasks() -> int:
    own, found = os.getuid(), 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == own:
                found += len(list((entry / "task").iterdir()))
        except OSError:
            continue  # it ended meanwhile
    return found


def _pids_left() -> int | None:
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
        path = next(line[3:] for line in own if line.startswith("0::"))
        folder = Path(f"/sys/fs/cgroup{path}")
        return int((folder / "pids.max").read_text()) - int((folder / "pids.current").read_text())
    except (OSError, ValueError, StopIteration):
        return None


def _size_of(path: str) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def _temporary() -> tuple[str, int | None, str]:
    try:
        root = folder_root()
        found = os.statvfs(root)
    except OSError as error:
        return "", None, str(error)
    return root, found.f_bavail * found.f_frsize, "" if os.access(root, os.W_OK | os.X_OK) else "it is not writable"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
