"""The life of a worker process between the fork and the exit; what it does in between is the entry's business.

Imported by the zygote, so it is kept as light as that.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
# Loaded before the first fork: dlopen is no thing to do in each child.
_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
# The module below ``signal``, whose functions have to load none of the enumerations that a worker has no other use for.
_plain: Any = sys.modules["_signal"]

_LINE_BUFFERED = 1
outputs: tuple[int, int] = (-1, -1)
"""Of a worker: the files that its stdout and stderr may lead to, which its zygote reads when it has ended."""
tracker_fd = -1
"""Of a worker: the pipe to what removes what its standard library has shared by name; see ``tracker``."""


def pass_on_lines() -> None:
    """Have the C library pass on each line that is printed by C code, also where no terminal is."""
    with contextlib.suppress(ValueError):  # a C library where the stream goes by another name
        _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _LINE_BUFFERED, ctypes.c_size_t(0))


def detach(zygote_pid: int) -> None:
    """Make the calling process, just forked, a worker: own group, dies with its zygote, gets signals.

    Parameters
    ----------
    zygote_pid
        Process that forked us; it is single-threaded, which makes the parent death signal safe.
    """
    os.setpgid(0, 0)
    if _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != zygote_pid:  # it died before the line above could take effect
        os._exit(1)
    # The zygote blocks these; what has arrived since the fork is delivered now.
    _plain.pthread_sigmask(_plain.SIG_SETMASK, [])
    # What the zygote's preloaded modules registered belongs to the zygote (as multiprocessing does since 3.13).
    atexit._clear()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()
    gc.enable()


def run(entry: Callable[[bytes, int], object], config: bytes, flight_fd: int) -> NoReturn:
    """Call ``entry(config, flight_fd)`` and end the process with its exit code; never returns.

    An integer result is the exit code, as is that of ``SystemExit``; any other exception prints its traceback and
    ends with 1, like a script.
    """
    code = 1
    try:
        code = _call(entry, config, flight_fd)
        code = _finish() or code
    finally:
        # os._exit and not sys.exit: the frames below us are the zygote's, and its finalization is not ours to run.
        os._exit(code & 0xFF)


def _call(entry: Callable[[bytes, int], object], config: bytes, flight_fd: int) -> int:
    try:
        result = entry(config, flight_fd)
    except SystemExit as stop:
        return exit_code(stop.code)
    except BaseException:  # noqa: BLE001
        # The border of the process: the traceback is all that can be told, the exit code tells the driver.
        sys.excepthook(*sys.exc_info())
        return 1
    return result if isinstance(result, int) else 0


def exit_code(code: Any) -> int:
    """Return what a process ends with that has raised ``SystemExit(code)``; a text is written, as Python does."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    sys.stderr.write(f"{code}\n")  # as the interpreter does with sys.exit("text")
    return 1


def _finish() -> int:
    """What the interpreter's own finalization would do for the user: exit handlers, threads, buffers."""
    try:
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util._exit_function()
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001 - as above
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        flush_stdio()
    return 0


def flush_stdio() -> None:
    """Flush stdout and stderr, and those of C; a reader that went away is not our failure."""
    for stream in (sys.stdout, sys.stderr):
        # No stream (closed descriptor), closed by the user, or a broken pipe: nobody is there to be told.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    _libc.fflush(None)


def flush_queues(timeout_s: float = 1.0) -> None:
    """Wait until what was put into queues of multiprocessing is in their pipes; not for ever: perhaps nobody reads."""
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    import threading

    flushing = threading.Thread(target=util._run_finalizers, name="scalepool-flush", daemon=True)
    flushing.start()
    flushing.join(timeout_s)
