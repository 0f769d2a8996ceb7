"""What is built of actors, and often needed: a pool of them, and a queue on one; as in ``ray.util``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scalepool.util.actor_pool import ActorPool
    from scalepool.util.queue import Empty, Full, Queue

__all__ = ["ActorPool", "Empty", "Full", "Queue"]


def __getattr__(name: str) -> Any:
    if name == "ActorPool":
        from scalepool.util.actor_pool import ActorPool

        return ActorPool
    if name in ("Empty", "Full", "Queue"):
        from scalepool.util import queue

        return getattr(queue, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
