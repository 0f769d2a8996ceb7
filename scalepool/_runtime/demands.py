"""What users write about resources, and what a session has of them."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from scalepool._base.amounts import UNIT, amount_text, named_units, units
from scalepool._base.memory import memory_bytes
from scalepool._base.sizes import size_bytes
from scalepool._core.resources import CPU, ENOUGH, GPU, LABEL, MEMORY, Demand, beyond, label_name
from scalepool.config import cpu_count
from scalepool.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool._runtime.spec import WorkerSpec
    from scalepool.config import Settings

__all__ = [
    "NamedAmounts",
    "NamedLabels",
    "asked",
    "capacity_of",
    "check_fits",
    "checked_labels",
    "checked_resources",
    "demand_of",
    "memory_of",
]

NamedAmounts = tuple[tuple[str, float], ...]
"""``resources=`` as it is kept: hashable, in the order of the names."""
NamedLabels = tuple[tuple[str, str], ...]
"""``label_selector=`` in the same way."""
_HOSTS_TOLD = 4
"""So many hosts are named in an error, and what each of them has."""

_MEMORY_SHARE = 0.7
_REMEDIES = {
    CPU: "ask for fewer CPUs, or start the session with more: scalepool.init(num_cpus=...)",
    GPU: "run it where there are GPUs, or tell the session of them: scalepool.init(num_gpus=...)",
    MEMORY: "ask for less, or start the session with more: scalepool.init(memory=...)",
}


def demand_of(
    num_cpus: float | None, num_gpus: float | None, resources: Any, memory: int | str | None, labels: NamedLabels = ()
) -> Demand:
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
    amounts.update({label_name(*label): 1 for label in labels})
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
    if any(name.startswith(LABEL) for name in found):
        raise ValueError(f"resources must not have names that begin with {LABEL!r}: use label_selector=")
    return tuple((name, amount / UNIT) for name, amount in found.items())


def checked_labels(selector: Any) -> NamedLabels:
    """Return ``label_selector=`` as it is kept.

    Raises
    ------
    TypeError, ValueError
        When it is no dict of texts, or asks for more than that a label has a value.
    """
    if not selector:
        return ()
    if isinstance(selector, tuple):
        selector = dict(selector)
    if not isinstance(selector, dict) or not all(
        isinstance(one, str) and one for pair in selector.items() for one in pair
    ):
        raise TypeError(f"label_selector must be a dict of labels and their values, not {selector!r}")
    for key, value in selector.items():
        if value.startswith("!") or (value.endswith(")") and "(" in value):
            raise ValueError(f"label_selector[{key!r}] must be the value of the label: {value!r} is not supported")
    return tuple(sorted(selector.items()))


def asked(demand: Demand, lease: int) -> tuple[int, list[bytes], list[int]]:
    """Return the last fields of ``OpenGroup`` for tasks that need this; ``lease`` as there."""
    return lease, [name.encode() for name, _ in demand.amounts], [amount for _, amount in demand.amounts]


def specified(spec: WorkerSpec, demand: Demand, own: Settings) -> WorkerSpec:
    """Return what workers are to be for tasks that need this: with their GPUs, and without those of others."""
    gpus = demand.gpus if own.num_gpus or demand.gpus else -1
    held = {name: amount for name, amount in demand.amounts if not name.startswith(LABEL)}
    return spec._replace(gpus=gpus, memory_bytes=demand.of_name(MEMORY) // UNIT, amounts=held)


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
    if own.labels:
        total.update({label_name(*label): ENOUGH * UNIT for label in json.loads(own.labels).items()})
    return total


def check_fits(demand: Demand, offers: Sequence[tuple[str, Mapping[str, int]]], name: str) -> None:
    """Raise ResourceError when no host ever has so much.

    Parameters
    ----------
    demand
        What is needed, on one host.
    offers
        What each host is called and has; the one of a session without a cluster is called nothing.
    name
        Whose demand it is.
    """
    lacking = [beyond(demand, total) for _, total in offers]
    if not offers or not all(lacking):
        return  # where there is no host now, one may come
    names = list(dict.fromkeys(one for missing in lacking for one in missing))
    needed = ", ".join(_told(one, demand.of_name(one)) for one in names)
    if len(offers) == 1 and not offers[0][0]:
        there = ", ".join(_told(one, offers[0][1].get(one, 0)) for one in names)
        remedy = _REMEDIES.get(names[0], f"start the session with it: scalepool.init(resources={{{names[0]!r}: ...}})")
        if names[0].startswith(LABEL):
            remedy = "start the session with it: scalepool.init(labels={...})"
        raise ResourceError(f"{name} can never run: it needs {needed}, and the session has {there} in all; {remedy}")
    hosts = "; ".join(
        f"{host} has {', '.join(_told(one, total.get(one, 0)) for one in names)}"
        for host, total in offers[:_HOSTS_TOLD]
    )
    more = f"; and so on, {len(offers)} hosts in all" if len(offers) > _HOSTS_TOLD else ""
    raise ResourceError(
        f"{name} can run on no host: it needs {needed} on one of them, and {hosts}{more}; what a host offers is said "
        "where it joins: scalepool worker --help"
    )


def _told(name: str, amount: int) -> str:
    if name.startswith(LABEL):
        return name if amount else f"no {name}"
    return f"{amount_text(name, amount)} {name}"
