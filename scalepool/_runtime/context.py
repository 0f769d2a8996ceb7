"""What code can ask about where it runs: which task, on which node, in which worker."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from scalepool._base.amounts import UNIT
from scalepool._runtime.functions import name_of
from scalepool._runtime.info import node_id_of
from scalepool._runtime.session import WorkerSession, current

if TYPE_CHECKING:
    from scalepool._runtime.executor import WorkItem
    from scalepool._runtime.handles import ActorHandle
    from scalepool._runtime.session import DriverSession

__all__ = ["RuntimeContext"]


class _Process:
    """Which process of which session the calling code is in."""

    __slots__ = ()

    @property
    def worker_id(self) -> int:
        """Number of this process in the session; the driver's is 0."""
        return current().client.peer

    @property
    def pid(self) -> int:
        """Number of this process in the operating system."""
        return os.getpid()

    @property
    def is_driver(self) -> bool:
        """Whether this process has started the session."""
        return not isinstance(current(), WorkerSession)

    def get_worker_id(self) -> str:
        """Return `worker_id` as hexadecimal text."""
        return _hex(self.worker_id)

    def get_node_id(self) -> str:
        """Return what ``scalepool.nodes()`` calls the host, as text."""
        return node_id_of(current())

    @property
    def host_name(self) -> str:
        """What the host calls itself."""
        return os.uname().nodename

    def get_job_id(self) -> str:
        """Return what tells this session from all others, as hexadecimal text; the same in all its processes."""
        return f"{current().client.session:016x}"

    @property
    def namespace(self) -> str:
        """Where actors with a name are looked for; empty: where nobody has named a namespace."""
        return current().settings.namespace


class RuntimeContext(_Process):
    """Where the calling code runs; every look at it is answered for the caller of that moment.

    Mirrors ``ray.runtime_context.RuntimeContext``: the ``get_...`` methods return text as Ray's do, the properties what
    the rest of this package calls the same things. Outside of a task what is about tasks is ``None``.
    """

    __slots__ = ()

    # ---- the task ----

    @property
    def task_id(self) -> int | None:
        """Number of the running task: the ``id`` of its first reference, for a remote function."""
        item = _item()
        return None if item is None else item.task

    @property
    def task_name(self) -> str | None:
        """Name of the task's function. The option ``name`` of a call is known to its caller only."""
        return self.get_task_function_name()

    @property
    def attempt_number(self) -> int:
        """How often the task had been started before; in Ray, too, the first time is 0."""
        item = _item()
        return 0 if item is None else item.attempt - 1

    @property
    def depth(self) -> int:
        """How many tasks run inside each other in this process: a task that waits may run others meanwhile."""
        session = current()
        return session.depth if isinstance(session, WorkerSession) else 0

    def get_task_id(self) -> str | None:
        """Return `task_id` as hexadecimal text."""
        task = self.task_id
        return None if task is None else _hex(task)

    def get_task_name(self) -> str | None:
        """Return `task_name`."""
        return self.task_name

    def get_task_function_name(self) -> str | None:
        """Return the name of the function."""
        item = _item()
        return None if item is None or item.slot.fn is None else name_of(item.slot.fn)

    # ---- the actor ----

    @property
    def actor_id(self) -> int | None:
        """Number of the actor that the calling code is a method of."""
        # Loaded in the workers of actors only.
        instance: Any = sys.modules.get("scalepool._runtime.instance")
        return (instance.actor_id() or None) if instance is not None else None

    def get_actor_id(self) -> str | None:
        """Return `actor_id` as hexadecimal text."""
        actor = self.actor_id
        return None if actor is None else _hex(actor)

    def get_actor_name(self) -> str | None:
        """Return the name that the actor was given; empty: it has none, ``None``: this is no actor."""
        instance: Any = sys.modules.get("scalepool._runtime.instance")
        return instance.actor_name() if instance is not None and instance.actor_id() else None

    @property
    def current_actor(self) -> ActorHandle:
        """A handle of the actor that the calling code is a method, or the constructor, of: to hand on to others.

        It does not keep the actor alive as long as only the actor itself has it. Raises RuntimeError where there is no
        actor.
        """
        from scalepool._runtime.handles import own_handle

        return own_handle()

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor began anew, after the death of the process in which it was before; see ``max_restarts``."""
        instance: Any = sys.modules.get("scalepool._runtime.instance")
        return instance is not None and instance.was_restarted()

    # ---- what it was given ----

    def get_assigned_resources(self) -> dict[str, float]:
        """Return what the task, or the actor, holds of the session's resources: ``{"CPU": 0.5, "GPU": 1.0, ...}``.

        Of ``memory`` bytes. Empty in the driver and in tasks of pools, which hold nothing.
        """
        session = current()
        if not isinstance(session, WorkerSession):
            return {}
        amounts = session.station.surroundings.amounts_of(session.parent_group)
        return {name: amount / UNIT for name, amount in amounts.items()}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the GPUs of the task or actor, as ``CUDA_VISIBLE_DEVICES`` names them: ``{"GPU": ["0", "1"]}``."""
        session = current()
        return {"GPU": list(session.gpus) if isinstance(session, WorkerSession) else []}

    def get(self) -> dict[str, Any]:
        """Return what there is to know as a dict, for logs."""
        return {
            "job_id": self.get_job_id(),
            "node_id": self.get_node_id(),
            "host_name": self.host_name,
            "worker_id": self.worker_id,
            "pid": self.pid,
            "task_id": self.task_id,
            "task_name": self.task_name,
            "attempt_number": self.attempt_number,
            "actor_id": self.actor_id,
            "actor_name": self.get_actor_name(),
            "resources": self.get_assigned_resources(),
        }

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self.get().items() if value is not None)
        return f"RuntimeContext({inside})"


def _item() -> WorkItem | None:
    session: DriverSession | WorkerSession = current()
    return session.item if isinstance(session, WorkerSession) else None


def _hex(number: int) -> str:
    return f"{number:016x}"
