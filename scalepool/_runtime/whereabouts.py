"""What a worker does now, for whoever asks from outside (``scalepool stack``), at no cost per task.

Each worker has an anonymous file, which nobody but its user can open (``/proc/PID/fd``). The tick thread, which looks
every few milliseconds while a task runs, keeps a note of that task there; tasks that are over sooner are never noted.
Whoever wants to know more writes a number into the file: then the thread adds the Python stack of the main thread, or,
in an actor that runs several calls at once, those of its threads or coroutines (``inside``). None of them notices, and
no signal is needed.

It can only do that when the main thread lets it have the interpreter. For calls into C that never do, `faulthandler`
appends the stack when the worker gets `SIGNAL`, from the midst of the call. That may end a system call early, so it is
only for those who ask for it. The signal is SIGURG since its default is to be ignored: a process that no longer listens
takes no harm.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from scalepool._runtime.functions import name_of
from scalepool._store.files import open_board
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from scalepool._runtime.concurrency import Concurrency
    from scalepool._runtime.executor import Executor

__all__ = ["ANSWER", "FILE_BYTES", "FILE_NAME", "HAS_BEGUN", "NOTE", "REQUEST", "SIGNAL", "Whereabouts"]

FILE_NAME: Final = "scalepool-stack"
FILE_BYTES: Final = 65536
"""Size of the part that is described here; what `faulthandler` writes comes behind it."""
REQUEST: Final = slice(0, 8)
"""Where who asks writes a number, little endian, other than the one that is there."""
_ANSWERED: Final = slice(8, 16)
"""The number of the latest request that has been answered; written last."""
HAS_BEGUN: Final = 16
"""The byte that says whether there ever was a task: before the first there is no thread that would answer."""
NOTE: Final = slice(24, 4096)
"""The task that runs, or that ran last, as JSON in ASCII, filled up with zeros."""
ANSWER: Final = slice(8, FILE_BYTES)
SIGNAL: Final = signal.SIGURG

_FOUND: Final = slice(4096, FILE_BYTES)


class Whereabouts:
    """The file of this worker.

    Parameters
    ----------
    worker
        Number of the worker in its session.
    """

    __slots__ = ("_board", "_fd", "_nameless", "_noted", "_since", "_worker")

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._noted = 0
        self._nameless = False
        self._since = 0.0
        self._fd = -1
        try:
            self._fd, self._board = open_board(FILE_NAME, FILE_BYTES)
        except StoreError:
            return  # out of descriptors or memory: a worker that cannot be looked into works all the same
        os.lseek(self._fd, FILE_BYTES, os.SEEK_SET)
        faulthandler.register(SIGNAL, file=self._fd, all_threads=False)

    def begin(self) -> None:
        """There is a task, and a thread that answers meanwhile."""
        if self._fd >= 0:
            self._board[HAS_BEGUN] = 1

    def look(self, executor: Executor, concurrency: Concurrency | None, waiting: int) -> None:
        """Write down the task that runs, unless that has been done, and all that goes on if somebody asks for it.

        Parameters
        ----------
        executor
            Runs the tasks.
        concurrency
            Runs the calls of an actor that runs several at once.
        waiting
            Tasks that are here and have not begun.
        """
        if self._fd < 0:
            return
        item = executor.item
        if item is not None and (item.task != self._noted or (self._nameless and item.slot.fn is not None)):
            if item.task != self._noted:
                self._noted, self._since = item.task, time.time()
            self._nameless = item.slot.fn is None  # until it is loaded, which may take a while
            name = "" if item.slot.fn is None else name_of(item.slot.fn)[:200]
            found = {"worker": self._worker, "task": item.task, "attempt": item.attempt, "name": name}
            note = json.dumps({**found, "depth": executor.depth, "since": self._since}).encode("ascii")
            self._write(NOTE, note if len(note) < NOTE.stop - NOTE.start else b"{}")
        if self._board[REQUEST] != self._board[_ANSWERED]:
            request = self._board[REQUEST]
            from scalepool._runtime.inside import answer  # few are ever asked

            self._write(_FOUND, answer(executor, concurrency, waiting, _FOUND.stop - _FOUND.start))
            self._board[_ANSWERED] = request

    def _write(self, where: slice, data: bytes) -> None:
        self._board[where] = data.ljust(where.stop - where.start, b"\0")
