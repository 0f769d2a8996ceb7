"""What a worker copies from the process that submits: directory, import path, environment, arguments.

Recorded by the driver when work is handed in, applied in each worker before it runs any of it, so that a task finds
what it would find in a process forked at that moment.
"""

from __future__ import annotations

import contextlib
import json

# Loaded early: a process draws its key when this is loaded, and all of ours need the driver's.
import multiprocessing.process
import os
import sys
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ProcessContext"]


class ProcessContext(NamedTuple):
    """A process's surroundings, as values.

    Attributes
    ----------
    cwd
        Working directory, or empty where it has been removed.
    sys_path, argv
        ``sys.path`` and ``sys.argv``.
    environ
        (name, value) of every variable, sorted; undecodable bytes as surrogates, like ``os.environ``.
    main_path
        File of the user's ``__main__``, or None (interactive, ``-c``).
    authkey
        ``multiprocessing.current_process().authkey``; None leaves a worker its own. Secret.
    umask
        File mode creation mask.
    """

    cwd: str
    sys_path: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    argv: tuple[str, ...]
    main_path: str | None
    authkey: bytes | None
    umask: int

    def __repr__(self) -> str:
        # The environment may hold secrets, and the key is one.
        return f"<ProcessContext cwd={self.cwd!r} argv={self.argv!r} main_path={self.main_path!r}>"

    @classmethod
    def capture(cls) -> ProcessContext:
        """Record the calling process."""
        return cls(
            cwd=_cwd(),
            sys_path=_sys_path(),
            environ=tuple(sorted(os.environ.items())),
            argv=tuple(str(argument) for argument in getattr(sys, "argv", ())),  # absent where Python is embedded
            main_path=_main_path(),
            authkey=_authkey(),
            umask=_umask(),
        )

    def on_host(self, environ: Mapping[str, str], sys_path: Sequence[str]) -> ProcessContext:
        """Return it as it makes sense on another host.

        Variables that describe a host or a login there stay as they are there, and folders for imports that only exist
        there are looked into after those of the recorded process.

        Parameters
        ----------
        environ, sys_path
            Of a process there.
        """
        followed = {name: value for name, value in self.environ if not _is_of_host(name)}
        own = {name: value for name, value in environ.items() if _is_of_host(name)}
        extra = [entry for entry in sys_path if entry and entry not in self.sys_path]
        return self._replace(environ=tuple(sorted({**followed, **own}.items())), sys_path=(*self.sys_path, *extra))

    def apply(self, overrides: Mapping[str, str] | None = None) -> None:
        """Make the calling process, a worker, look like the recorded one.

        Parameters
        ----------
        overrides
            Variables on top of the recorded environment: the limits its zygote was started with, which the recorded
            process does not have.
        """
        if self.cwd:
            # Removed or closed to us since: the task may well not need it, and says so if it does.
            with contextlib.suppress(OSError):
                os.chdir(self.cwd)
        _replace_environ({**dict(self.environ), **(overrides or {})})
        sys.path[:] = self.sys_path
        sys.argv = list(self.argv)
        os.umask(self.umask)
        if self.authkey is not None:
            multiprocessing.process.current_process().authkey = self.authkey

    def encode(self) -> bytes:
        """Return the context as bytes (JSON), the authkey included: only for channels that are ours alone."""
        authkey = None if self.authkey is None else self.authkey.hex()
        values = [self.cwd, self.sys_path, self.environ, self.argv, self.main_path, authkey, self.umask]
        return json.dumps(values).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> ProcessContext:
        """Inverse of ``encode``.

        Raises
        ------
        ProtocolError
            When ``data`` is nothing that ``encode`` returned.
        """
        try:
            cwd, sys_path, environ, argv, main_path, authkey, umask = json.loads(data)
            return cls(
                cwd=cwd,
                sys_path=tuple(sys_path),
                environ=tuple((name, value) for name, value in environ),
                argv=tuple(argv),
                main_path=main_path,
                authkey=None if authkey is None else bytes.fromhex(authkey),
                umask=umask,
            )
        except (ValueError, TypeError) as error:
            raise ProtocolError(f"not a process context: {error}") from error


_OF_HOST: Final = frozenset({
    "CUDA_VISIBLE_DEVICES", "DISPLAY", "HOME", "HOSTNAME", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOGNAME",
    "NVIDIA_VISIBLE_DEVICES", "OLDPWD", "PATH", "PWD", "PYTHONHOME", "SHELL", "TEMP", "TERM", "TMP", "TMPDIR", "USER",
    "VIRTUAL_ENV",
})  # fmt: skip
_OF_HOST_PREFIXES: Final = ("SSH_", "XDG_", "CONDA_", "SLURM_", "PBS_", "LSB_", "KUBERNETES_", "SCALEPOOL_")


def _is_of_host(name: str) -> bool:
    return name in _OF_HOST or name.startswith(_OF_HOST_PREFIXES)


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib is a heavy import
    except FileNotFoundError:
        return ""


def _sys_path() -> tuple[str, ...]:
    entries: list[object] = list(sys.path)
    return tuple(entry for entry in entries if isinstance(entry, str))  # imports ignore anything else, too


def _main_path() -> str | None:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else None  # noqa: PTH100 - as above


def _authkey() -> bytes:
    return bytes(multiprocessing.process.current_process().authkey)


def _umask() -> int:
    # os.umask only tells by setting, which another thread's open() would notice.
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - as above
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith(b"Umask:"):
            return int(line.split()[1], 8)
    mask = os.umask(0o077)  # Linux before 4.7, or no /proc
    os.umask(mask)
    return mask


def _replace_environ(wanted: dict[str, str]) -> None:
    # Only what differs: each change calls putenv, which is not safe beside C code that reads the environment.
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
