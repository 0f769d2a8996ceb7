"""The flight record: what a worker was doing, readable after it was killed.

One small shared file per worker, made by the zygote before the fork, written by the worker, read by the hub once the
worker is dead. It answers exactly: which tasks were running (they are to blame), how many had been started (the
others are innocent and are queued again), and which results had been produced but not yet received.

Guarantee: whatever byte the writer is killed at, the record tells a state that the worker was in or was about to
enter. The reason:

* All that counts lies in single aligned 8-byte words, each stored by one machine instruction, and each change of
  state is *one* such store. What it refers to (a slot, a frame) is written before, into room that the old state does
  not refer to.
* ``state`` holds two numbers: tasks started << 8 | depth. Finished is their difference, so the three never disagree.
* ``log`` holds frames logged << 24 | where the next one goes. A frame is a length word and its bytes, padded to words.
* ``base`` is the number of frames logged before the one at position 0. The log restarts only when the hub has
  confirmed all frames; then ``base = logged`` declares it empty, before anything is written over.
* ``items`` tells, for each running task, which item of its input it works on, counted from 1; 0: it does not say.
* ``unsent`` is how many bytes of frames there are with values of streams that wait to be sent. It becomes 0 before the
  next one is written when all of them have been sent; one that the hub has got already says so by its position.
* ``revocation`` alone is written by the hub: how often it has taken back what had not begun. The worker looks at it
  after the store that begins a task, the hub looks for that after its own store: at least one of them sees the other's.
* The writer keeps no copy of these words: an exception raised by a signal handler between two stores is no different
  from a kill.

Assumptions: one thread at a time begins, ends and logs (the one that executes); any one thread calls `acked`; the
reader reads when the writer is dead, and gets a plausible but perhaps mixed picture before. The reader trusts no
number that it finds: a dying process may have scribbled over the page.
"""

from __future__ import annotations

import mmap
import os

from scalepool._store.files import HAS_MEMFD, anonymous_file, map_file
from scalepool.errors import StoreError

__all__ = [
    "CRASH_OFFSET",
    "LOG_CAPACITY",
    "MAX_DEPTH",
    "UNSENT_CAPACITY",
    "FlightRecord",
    "forget_unsent",
    "keep_unsent",
    "note_passed",
    "passed",
    "unsent",
]

MAX_DEPTH = 64
"""Tasks that may run inside each other in one worker (each but the last waits for one that runs in its place)."""

LOG_CAPACITY = 1 << 20
"""Bytes of results that may be unconfirmed; its pages are allocated when they are first used."""

UNSENT_CAPACITY = 1 << 16
"""Bytes of values of streams that may wait to be sent together."""

_HEADER = 4096
_UNSENT_AT = _HEADER + LOG_CAPACITY
# Behind these: what the worker's code wrote to stderr last, and what ``faulthandler`` writes when it crashes.
_WORDS = _UNSENT_AT + UNSENT_CAPACITY
_WORDS_BYTES = 4096
CRASH_OFFSET = _WORDS + _WORDS_BYTES
_CRASH_BYTES = 60 * 1024
_SIZE = CRASH_OFFSET + _CRASH_BYTES
_MAGIC = 0x31_54_48_47_49_4C_46_53  # "SFLIGHT1"

# The words of the header. Behind the stack of tasks lies one of the same size with the item that each task works on.
_MAGIC_WORD, _STATE, _LOG, _BASE, _STACK = range(5)
_ITEMS = _STACK + 1 + MAX_DEPTH
_REVOCATION = _ITEMS + 1 + MAX_DEPTH
# Up to where the worker has passed on what was written to its stdout and its stderr, and the task that this is for.
_PASSED = _REVOCATION + 1
_PASSED_FOR = _PASSED + 2
_UNSENT = _PASSED_FOR + 1

_BEGUN = 0x101  # added to the state word: one more started, one deeper
_DEPTH_MASK = 0xFF
_POSITION_BITS = 24
_POSITION_MASK = (1 << _POSITION_BITS) - 1
_ONE_FRAME = 1 << _POSITION_BITS

_NO_TASK = -(1 << 63)


class FlightRecord:
    """One worker's record, attached by its writer or by a reader; see the module's text.

    Made by `create` and `attach`.
    """

    __slots__ = ("_acked_below", "_items", "_mapping", "_stack", "_words")

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        self._words = memoryview(mapping).cast("q")
        # Slot 0 lies below the first task and matches none; an index beyond the last slot is an IndexError for free.
        self._stack = self._words[_STACK : _STACK + 1 + MAX_DEPTH]
        self._items = self._words[_ITEMS : _ITEMS + 1 + MAX_DEPTH]
        self._acked_below = _ONE_FRAME  # a log word below this: all frames are confirmed; at first there are none

    def __repr__(self) -> str:
        return f"<{type(self).__name__} started={self.started} finished={self.finished} running={self.running()}>"

    @staticmethod
    def create(name: str, *, use_memfd: bool = HAS_MEMFD) -> int:
        """Make an empty record and return its descriptor, which is the caller's to close.

        Parameters
        ----------
        name
            For debugging.
        use_memfd
            As in ``files.anonymous_file``.

        Raises
        ------
        StoreError
            There is no memory or no descriptor for it.
        """
        fd = anonymous_file(name, _SIZE, use_memfd=use_memfd)
        try:
            # Pages that are missing when they are written kill the writer. Those of a memfd have no quota that could
            # refuse them, so its log stays sparse; those of a file on a disk do.
            os.posix_fallocate(fd, 0, _HEADER if use_memfd else _SIZE)
            for word, value in ((_STACK, _NO_TASK), (_MAGIC_WORD, _MAGIC)):
                os.pwrite(fd, value.to_bytes(8, "little", signed=True), 8 * word)
        except OSError as error:
            os.close(fd)
            raise StoreError(f"no memory for a flight record: {error}") from error
        return fd

    @classmethod
    def attach(cls, fd: int) -> FlightRecord:
        """Map the record behind *fd*, which may be closed afterwards.

        One writer at a time, the worker itself; a later one goes on where the former stopped. A reader writes one word,
        by `revoke`.

        Raises
        ------
        StoreError
            It is no flight record, or cannot be mapped.
        """
        record = cls(map_file(fd, _SIZE, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        if record._words[_MAGIC_WORD] != _MAGIC:
            record.close()
            raise StoreError(f"descriptor {fd} is no flight record")
        return record

    def close(self) -> None:
        """Unmap it; nothing else may be called afterwards."""
        self._stack.release()
        self._items.release()
        self._words.release()
        self._mapping.close()

    # The worker writes...

    def begin(self, task_id: int) -> int:
        """Note that *task_id* starts, inside the task that runs now if there is one. To be called before any user code.

        Returns
        -------
        int
            The number of the last revocation. If that is one which the worker does not know of, it must not run the
            task.

        Raises
        ------
        StoreError
            More than `MAX_DEPTH` tasks inside each other; nothing is noted.
        """
        words = self._words
        state = words[_STATE] + _BEGUN
        try:
            self._stack[state & _DEPTH_MASK] = task_id
        except IndexError:
            raise StoreError(f"more than {MAX_DEPTH} tasks run inside each other in one worker") from None
        words[_STATE] = state
        return words[_REVOCATION]

    def end(self, task_id: int) -> None:
        """Note that *task_id* is over.

        Log its result before: a kill between the two finds the task running *and* its result logged, never neither.
        Tasks may end in another order than they began.

        Raises
        ------
        KeyError
            It does not run.
        """
        words = self._words
        state = words[_STATE]
        if self._stack[state & _DEPTH_MASK] != task_id:
            self._move_top_over(task_id)
        words[_STATE] = state - 1

    def item_slot(self) -> tuple[memoryview, int]:
        """Where the task that runs now may note which item it works on: ``view[index] = number``, counted from 1.

        It writes 0 there when it is through with its items.
        """
        return self._items, self._words[_STATE] & _DEPTH_MASK

    def log_result(self, frame: bytes) -> bool:
        """Keep a result until the hub has confirmed it.

        Returns
        -------
        bool
            ``False``: no room, nothing is kept and the frame does not count. Send it at once then.
        """
        words = self._words
        log = words[_LOG]
        position = log & _POSITION_MASK
        if log < self._acked_below:  # every frame is confirmed
            words[_BASE] = log >> _POSITION_BITS
            log -= position
            position = 0
        size = len(frame)
        start = position + 8
        end = start + size
        if end > LOG_CAPACITY:
            return False
        self._mapping[_HEADER + start : _HEADER + end] = frame
        words[(_HEADER - 8 + start) >> 3] = size
        words[_LOG] = log + (_ONE_FRAME + ((end + 7) & -8) - position)
        return True

    def acked(self, n: int) -> None:
        """Note that the hub has received the first *n* frames ever logged; *n* never takes anything back."""
        self._acked_below = max(self._acked_below, (n + 1) << _POSITION_BITS)

    def keep_words(self, text: bytes) -> None:
        """Keep the end of ``text`` as what the worker said last. A kill meanwhile may garble it."""
        text = text[8 - _WORDS_BYTES :]
        self._mapping[_WORDS + 8 : _WORDS + 8 + len(text)] = text
        self._words[_WORDS >> 3] = len(text)

    # ... and the hub reads

    def revoke(self, number: int) -> None:
        """Have the worker begin no task that it got before it was told of revocation *number*."""
        self._words[_REVOCATION] = number

    def last_words(self) -> tuple[bytes, bytes]:
        """What the worker said last, and what ``faulthandler`` wrote of its crash; empty where there is nothing."""
        length = min(max(self._words[_WORDS >> 3], 0), _WORDS_BYTES - 8)
        crash = self._mapping[CRASH_OFFSET:_SIZE]
        return self._mapping[_WORDS + 8 : _WORDS + 8 + length], crash.rstrip(b"\0")

    @property
    def started(self) -> int:
        """Tasks begun so far."""
        return self._words[_STATE] >> 8

    @property
    def finished(self) -> int:
        """Tasks begun and ended so far."""
        state = self._words[_STATE]
        return (state >> 8) - (state & _DEPTH_MASK)

    def running(self) -> tuple[int, ...]:
        """The tasks that run, the outermost first."""
        depth = min(self._words[_STATE] & _DEPTH_MASK, MAX_DEPTH)
        # Killed between the two stores of an end out of order, a task stands there twice.
        return tuple(dict.fromkeys(self._stack[1 : depth + 1]))

    def running_items(self) -> dict[int, int]:
        """The tasks that run, the outermost first, each with the number of the item that it works on, or 0."""
        depth = min(self._words[_STATE] & _DEPTH_MASK, MAX_DEPTH)
        found: dict[int, int] = {}
        for task, item in zip(self._stack[1 : depth + 1], self._items[1 : depth + 1], strict=True):
            found.setdefault(task, item)
        return found

    @property
    def forgotten(self) -> int:
        """How many frames were logged before the first that ``unacked`` could return."""
        return self._words[_BASE]

    def unacked(self, n_received: int) -> list[bytes]:
        """The logged frames that are not among the first *n_received*, oldest first.

        Where the log makes no sense (the dying process wrote over it), the frames before the damage.
        """
        log = self._words[_LOG]
        base = self._words[_BASE]
        frames = []
        position = 0
        for number in range(base, log >> _POSITION_BITS):
            start = position + 8
            if start > LOG_CAPACITY:
                break
            size = self._words[(_HEADER + position) >> 3]
            if not 0 <= size <= LOG_CAPACITY - start:
                break
            if number >= n_received:
                frames.append(self._mapping[_HEADER + start : _HEADER + start + size])
            position = (start + size + 7) & -8
        return frames

    def _move_top_over(self, task_id: int) -> None:
        depth = self._words[_STATE] & _DEPTH_MASK
        running = list(self._stack[1 : depth + 1])
        if task_id not in running:
            raise KeyError(task_id)
        at = 1 + running.index(task_id)
        self._items[at] = self._items[depth]
        self._stack[at] = running[-1]


def note_passed(record: FlightRecord, out: int, err: int, task_id: int) -> None:
    """Note up to where a worker's stdout and stderr have been passed on, in bytes, and for which task the rest is."""
    words = record._words
    words[_PASSED], words[_PASSED + 1], words[_PASSED_FOR] = out, err, task_id


def passed(record: FlightRecord) -> tuple[int, int, int]:
    """Return what was noted last."""
    words = record._words
    return words[_PASSED], words[_PASSED + 1], words[_PASSED_FOR]


def keep_unsent(record: FlightRecord, frame: bytes) -> bool:
    """Keep a value of a stream that waits to be sent; ``False``: no room, it must be sent at once."""
    words = record._words
    start = words[_UNSENT] + 8
    end = start + len(frame)
    if end > UNSENT_CAPACITY:
        return False
    record._mapping[_UNSENT_AT + start : _UNSENT_AT + end] = frame
    words[(_UNSENT_AT - 8 + start) >> 3] = len(frame)
    words[_UNSENT] = (end + 7) & -8
    return True


def forget_unsent(record: FlightRecord) -> None:
    """All of them have been sent."""
    record._words[_UNSENT] = 0


def unsent(record: FlightRecord) -> list[bytes]:
    """Return the values of streams that were not sent, or perhaps just so, oldest first."""
    words, frames, at = record._words, list[bytes](), 0
    end = min(words[_UNSENT], UNSENT_CAPACITY)
    while at < end:
        size = words[(_UNSENT_AT + at) >> 3]
        start = at + 8
        if not 0 <= size <= end - start:
            break
        frames.append(record._mapping[_UNSENT_AT + start : _UNSENT_AT + start + size])
        at = (start + size + 7) & -8
    return frames


create = FlightRecord.create
