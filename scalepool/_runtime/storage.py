"""What one process has of the store: the segments it writes, the mappings it reads, and its part of the budget."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scalepool._store.budget import Budget
from scalepool._store.files import can_look_into, open_segment
from scalepool._store.mapping import IdleLimits, Views
from scalepool._store.plan import StorePlan
from scalepool._store.recycle import RecycleLimits
from scalepool._store.segments import SegmentFiles, SegmentStore
from scalepool._wire import messages as m
from scalepool.config import recycle_limit_bytes, store_limit_bytes

if TYPE_CHECKING:
    from scalepool._store.deposits import DepositBox
    from scalepool._store.files import SegmentRef
    from scalepool._store.handover import Handover
    from scalepool._store.handover_host import HandoverHost
    from scalepool.config import Settings

__all__ = ["Storage", "plan_of"]


class Storage:
    """The store's parts in one process.

    Parameters
    ----------
    peer
        Number of this process.
    settings
        The session's settings.
    plan
        What the processes of the session agree on.
    """

    def __init__(self, peer: int, settings: Settings, plan: StorePlan) -> None:
        kept_bytes = recycle_limit_bytes(settings)  # a worker is told its share
        self.retained_bytes = kept_bytes // 2
        self.plan = plan
        self.budget = Budget(plan.account, peer, plan.limits)
        self.store = SegmentStore(
            limits=RecycleLimits(max_bytes=kept_bytes),
            files=SegmentFiles(plan.use_memfd, plan.directory),
            budget=self.budget,
        )
        self.host: HandoverHost | None = None
        """In the driver, where processes may not open each other's descriptors: gives them to who asks."""
        self.box: DepositBox | None = None
        """In the driver, elsewhere: where workers leave descriptors of what they make."""
        self.handover: Handover | None = self._hand_over(peer) if plan.key else None
        if not plan.key and plan.directory:
            self._leave_deposits(peer)
        opener = open_segment if self.handover is None else self.handover.open
        self.views = Views(idle=IdleLimits(max_bytes=kept_bytes), tight=self._is_tight, opener=opener)

    def _hand_over(self, peer: int) -> Handover:
        plan = self.plan
        if peer == m.DRIVER:
            from scalepool._store.handover_host import HandoverHost

            self.host = HandoverHost(plan.socket, bytes.fromhex(plan.key))
            self.host.serve_from(self.store.find)
            return self.host
        from scalepool._store.handover import HandoverPeer

        self.store.handover = HandoverPeer(plan.socket, bytes.fromhex(plan.key))
        return self.store.handover

    def _leave_deposits(self, peer: int) -> None:
        from scalepool._store.deposits import DepositBox, Depositor

        if peer == m.DRIVER:
            self.box = DepositBox(self.plan.socket)
        else:
            self.store.handover = Depositor(self.plan.socket)

    def claim(self, ref: SegmentRef) -> int:
        """In the driver: return a descriptor of an object that a worker has made; see ``DepositBox.claim``."""
        if self.host is not None:
            return self.host.claim(ref)
        return open_segment(ref) if self.box is None else self.box.claim(ref)

    def forget(self, worker: int) -> None:
        """In the driver: a worker is gone."""
        for one in (self.host, self.box):
            if one is not None:
                one.forget(worker)

    def _is_tight(self) -> bool:
        return self.budget.tight

    @property
    def outstanding_bytes(self) -> int:
        """A share of the memory that the arguments of one process may take before it has to wait."""
        return max(self.plan.memory_bytes // 4, 1)

    def receive(self, message: m.Message) -> bool:
        """Take in a word of the hub; False when it is not about memory."""
        if type(message) is m.Free:
            for object_id in message.objects:
                self.store.free(object_id)
        elif type(message) is m.Discard:
            for object_id in message.objects:
                self.store.discard(object_id)
        elif type(message) is m.Trim:
            self.store.trim()
            self.views.close()
        else:
            return False
        return True

    def rest(self, now: float) -> None:
        """Give back what has not been used for some seconds, or all that is idle while memory is short."""
        if self.budget.tight:
            self.store.trim()
        self.store.expire(now)
        self.views.expire(now)

    def close(self) -> None:
        """Let go of everything."""
        self.store.close()
        self.views.close()
        for one in (self.handover, self.box, self.store.handover):  # some are the same
            if one is not None:
                one.close()
        self.budget.close()


def plan_of(settings: Settings, directory: str, child: int) -> StorePlan:
    """Decide how the store of a session works.

    Parameters
    ----------
    settings
        The session's settings.
    directory
        The session's directory.
    child
        Some process that this one has started.
    """
    plan = StorePlan(
        directory=directory,
        memory_bytes=store_limit_bytes(settings),
        spill_bytes=settings.spill_limit_bytes,
        spill_dir=settings.spill_dir or os.path.dirname(directory),  # noqa: PTH120 - pathlib takes 5 ms to import
    )
    if settings.store_files != "auto":
        plan = plan._replace(use_memfd=settings.store_files == "memfd")
    access = settings.store_access
    if access == "fds" or (access == "auto" and not can_look_into(child)):
        plan = plan._replace(key=os.urandom(16).hex())
    return plan
