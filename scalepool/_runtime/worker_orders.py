"""What a driver has ordered of its workers: until it is known where they are, and for a head that knows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scalepool._wire import cluster as c

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WorkerOrders"]

Order: TypeAlias = "c.Launch | c.Kill | c.Look | c.Withdraw"


class WorkerOrders:
    """Orders by worker.

    A head chooses where a worker is started. It is told all that counts for that; the order itself goes to the host, in
    the conversation with it, and whatever was ordered about the worker meanwhile after it.
    """

    __slots__ = ("_requests", "_waiting")

    def __init__(self) -> None:
        self._requests: dict[int, bytes] = {}
        self._waiting: dict[int, list[Order]] = {}

    def wait(self, launch: c.Launch) -> bytes:
        """Return what to ask the head."""
        self._waiting[launch.worker] = [launch]
        request = self._requests[launch.worker] = c.encode(launch._replace(spec=b"", objects=()))
        return request

    def follow(self, order: c.Kill | c.Look | c.Withdraw) -> bool:
        """Whether an order is for a worker that has no host yet: then it is kept."""
        waiting = self._waiting.get(order.worker)
        if waiting is None:
            return False
        waiting.append(order)
        return True

    def placed(self, worker: int) -> list[Order]:
        """Return what to tell the host that a worker is on, or whose order was refused; empty: that was done."""
        return self._waiting.pop(worker, [])

    def of(self, homes: Mapping[int, int]) -> tuple[list[bytes], list[bytes]]:
        """Return what was asked for these workers, and for those that wait."""
        self._requests = {one: data for one, data in self._requests.items() if one in homes or one in self._waiting}
        return [self._requests[one] for one in homes], [self._requests[one] for one in self._waiting]
