"""What users write about resources, and what a session has of them."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from scalepool._base.amounts import UNIT, amount_text, named_units, units
from scalepool._base.memory import memory_bytes
from scalepool._base.sizes import size_bytes
from scalepool._core.resources import CPU, GPU, MEMORY, Demand, beyond
from scalepool.config import cpu_count
from scalepool.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._runtime.spec import WorkerSpec
    from scalepool.config import Settings

__all__ = [
    "NamedAmounts",
    "asked",
    "capacity_of",
    "check_fits",
    "checked_resources",
    "demand_of",
    "memory_of",
    "most_at_once",
]

NamedAmounts = tuple[tuple[str, float], ...]
"""``resources=`` as it is kept: hashable, in the order of the names."""

_MEMORY_SHARE = 0.7
_SMALLEST_SHARE = UNIT // 10
"""Tasks that need less of a CPU than this count as if they needed so much, where it is about their number."""
_REMEDIES = {
    CPU: "ask for fewer CPUs, or start the session with more: scalepool.init(num_cpus=...)",
    GPU: "run it where there are GPUs, or tell the session of them: scalepool.init(num_gpus=...)",
    MEMORY: "ask for less, or start the session with more: scalepool.init(memory=...)",
}


def demand_of(num_cpus: float | None, num_gpus: float | None, resources: Any, memory: int | str | None) -> Demand:
    """Return what a task with these options needs; ``None`` is 0.

    Raises
    ------
    TypeError, ValueError
        When one of them has a value that makes no sense; the message names it.
    """
    gpus = units(num_gpus or 0, "num_gpus")
    if gpus > UNIT and gpus % UNIT:
        raise ValueError(f"num_gpus must be whole above 1, as parts of GPUs cannot be joined, not {num_gpus!r}")
    amounts = dict(named_units(dict(resources or ()), "resources"))
    amounts[CPU] = units(num_cpus or 0, "num_cpus")
    amounts[GPU] = gpus
    amounts[MEMORY] = memory_of(memory) * UNIT
    return Demand.of(amounts)


def checked_resources(resources: Any) -> NamedAmounts:
    """Return ``resources=`` as it is kept.

    Raises
    ------
    TypeError, ValueError
        When it is no dict of names and numbers.
    """
    if not resources:
        return ()
    found = named_units(dict(resources) if isinstance(resources, tuple) else resources, "resources")
    return tuple((name, amount / UNIT) for name, amount in found.items())


def asked(demand: Demand, lease: int) -> tuple[int, list[bytes], list[int]]:
    """Return the last fields of ``OpenGroup`` for tasks that need this; ``lease`` as there."""
    return lease, [name.encode() for name, _ in demand.amounts], [amount for _, amount in demand.amounts]


def specified(spec: WorkerSpec, demand: Demand, own: Settings) -> WorkerSpec:
    """Return what workers are to be for tasks that need this: with their GPUs, and without those of others."""
    gpus = demand.gpus if own.num_gpus else -1
    return spec._replace(gpus=gpus, memory_bytes=demand.of_name(MEMORY) // UNIT, amounts=dict(demand.amounts))


def threads_of(demand: Demand) -> int:
    """Return how many threads numeric libraries may use in such a task: one for each whole CPU, at least 1."""
    return max(1, demand.of_name(CPU) // UNIT)


def memory_of(memory: int | str | None) -> int:
    """Return ``memory=`` in bytes; 0: none is asked for. Raises as `size_bytes`."""
    return size_bytes(memory, "memory") if memory else 0


@functools.lru_cache(maxsize=4)
def capacity_of(own: Settings) -> Mapping[str, int]:
    """Return what a session with these settings has, in units by name: CPU, GPU where there are any, memory, others."""
    total = {CPU: (own.num_cpus or cpu_count().count) * UNIT}
    if own.num_gpus:
        total[GPU] = own.num_gpus * UNIT
    total[MEMORY] = (own.memory if own.memory is not None else int(memory_bytes() * _MEMORY_SHARE)) * UNIT
    if own.resources:
        total.update(named_units(json.loads(own.resources), "resources"))
    return total


def check_fits(demand: Demand, total: Mapping[str, int], name: str) -> None:
    """Raise ResourceError when ``demand`` is more than a session ever has; ``name`` is whose demand it is."""
    names = beyond(demand, total)
    if names:
        needed = ", ".join(f"{amount_text(one, demand.of_name(one))} {one}" for one in names)
        there = ", ".join(f"{amount_text(one, total.get(one, 0))} {one}" for one in names)
        remedy = _REMEDIES.get(names[0], f"start the session with it: scalepool.init(resources={{{names[0]!r}: ...}})")
        raise ResourceError(f"{name} can never run: it needs {needed}, and the session has {there} in all; {remedy}")


def most_at_once(demand: Demand, total: Mapping[str, int]) -> int:
    """Return how many workers tasks with this demand may have at once: what fits, ten per CPU where that is more."""
    cpus = max(demand.of_name(CPU), _SMALLEST_SHARE)
    most = total[CPU] // cpus
    for name, amount in demand.amounts:
        if name != CPU:
            each = amount if name != GPU or amount <= UNIT else -(-amount // UNIT) * UNIT
            most = min(most, total.get(name, 0) // each)
    return max(1, most)
