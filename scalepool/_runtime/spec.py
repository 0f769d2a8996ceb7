"""What a worker is to be, as bytes: the driver writes it, the hub passes it on unread, the worker reads it."""

from __future__ import annotations

import json
import struct

# Where hashlib has it from; that would load OpenSSL (3 ms, 1 MB) into every driver and worker.
from _blake2 import blake2b
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._store.plan import StorePlan
from scalepool.config import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["WorkerConfig", "WorkerSpec"]

_LENGTHS: Final = struct.Struct("<III")


class WorkerSpec(NamedTuple):
    """The sort of worker that a group needs.

    Attributes
    ----------
    limits
        Environment variables that size the thread pools of numeric libraries; set before those load.
    context
        The client's cwd, environment, sys.path etc., encoded by ``_proc.context``.
    initializer
        Payload of ``(initializer, initargs)``, without what of it lies in the store; empty for none.
    name
        Prefix of its process name.
    max_rss
        Bytes of memory beyond which it tells the hub; 0: never.
    levels
        Of the client's loggers.
    captures
        Whether what each task prints is for its future, and not to be shown.
    gpus
        Units of GPUs that each worker has; 0: it may see none, -1: whatever the client sees.
    memory_bytes
        What each task may have beside what is there already; 0: as much as it likes.
    amounts
        What each task, or the actor, holds of the session's resources, in units by name.
    """

    limits: Mapping[str, str]
    context: bytes
    initializer: bytes = b""
    name: str = "ScalepoolWorker"
    max_rss: int = 0
    levels: Mapping[str, int] = {}
    captures: bool = False
    gpus: int = -1
    memory_bytes: int = 0
    amounts: Mapping[str, int] = {}

    @property
    def kind(self) -> int:
        """A number that is the same for specs whose workers may be shared: limits, GPUs and memory decide."""
        sort = [sorted(self.limits.items()), self.gpus, self.memory_bytes]
        digest = blake2b(json.dumps(sort).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def encode(self) -> bytes:
        """Return it as bytes."""
        rest = [self.name, self.max_rss, self.levels, self.captures, self.gpus, self.memory_bytes, self.amounts]
        head = json.dumps([dict(self.limits), *rest]).encode()
        lengths = _LENGTHS.pack(len(head), len(self.context), len(self.initializer))
        return b"".join((lengths, head, self.context, self.initializer))

    @classmethod
    def decode(cls, data: bytes) -> WorkerSpec:
        """Read what ``encode`` wrote."""
        head_size, context_size, _ = _LENGTHS.unpack_from(data)
        start = _LENGTHS.size
        head = json.loads(data[start : start + head_size])
        start += head_size
        context = data[start : start + context_size]
        limits, *rest = head
        return cls(limits, context, data[start + context_size :], *rest)


class WorkerConfig(NamedTuple):
    """Everything that a worker process is told when it is forked.

    ``objects`` are those that its spec needs; at the address ``code`` it asks for modules, empty: it has all.
    """

    worker: int
    address: str
    token: str
    settings: Settings
    spec: WorkerSpec
    store: StorePlan = StorePlan()
    gpus: Sequence[str] = ()
    objects: Sequence[int] = ()
    code: str = ""

    def encode(self) -> bytes:
        """Return it as bytes."""
        link = (self.worker, self.address, self.token)
        head = json.dumps([*link, self.settings, self.store, self.gpus, self.objects, self.code]).encode()
        return struct.pack("<I", len(head)) + head + self.spec.encode()

    @classmethod
    def decode(cls, data: bytes) -> WorkerConfig:
        """Read what ``encode`` wrote."""
        (size,) = struct.unpack_from("<I", data)
        worker, address, token, values, store, gpus, objects, code = json.loads(data[4 : 4 + size])
        # Checked where the session was made.
        spec = WorkerSpec.decode(data[4 + size :])
        plan = StorePlan._make(store)
        return cls(worker, address, token, Settings._make(values), spec, plan, tuple(gpus), tuple(objects), code)
