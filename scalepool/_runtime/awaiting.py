"""Waiting inside an event loop for what this process knows of values: the loop goes on, the pump's helper works."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from scalepool._runtime.recovery import report
from scalepool._store.files import SegmentLost

if TYPE_CHECKING:
    from collections.abc import Generator

    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["result", "until_over"]


async def until_over(values: Values, slot: Slot) -> None:
    """Wait until ``slot`` is over. To cancel the waiting is to stop waiting, nothing else."""
    if slot.is_over:
        return
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def tell(_: Slot) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits there any more
            loop.call_soon_threadsafe(settle)

    values.watch([slot], tell)
    try:
        values.client.attend()
        await future
    finally:
        values.unwatch([slot], tell)


def result(values: Values, ref: ObjectRef[Any]) -> Generator[Any, None, Any]:
    """Wait likewise for the value of ``ref``, which is kept until then; return it, or raise what became of it."""
    (slot,) = values.slots([ref])
    while True:
        yield from until_over(values, slot).__await__()
        try:
            value = values.load(slot)
        except SegmentLost as error:
            report(values, slot, error)
        except StopIteration as error:  # which would end this generator, and look as if there were a value
            raise RuntimeError(f"{slot.name or 'a task'} raised StopIteration, which no await can raise") from error
        else:
            _ = ref
            return value
