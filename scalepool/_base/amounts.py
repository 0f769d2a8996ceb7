"""Amounts of resources: whole multiples of 1/10000, so that sums of fractions are exact."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BUILT_IN", "UNIT", "amount_text", "amounts_text", "json_text", "named_units", "resource_text", "units"]

UNIT = 10_000
"""How many units one CPU, one GPU, one byte or one of a resource of the user's own has."""
BUILT_IN = ("CPU", "GPU", "memory")
"""Resources that are not named in ``resources=``: each has an argument of its own."""
_MOST = 1 << 48


def units(amount: object, label: str) -> int:
    """Return a number of 0 or more in units.

    Raises
    ------
    TypeError
        When it is no number.
    ValueError
        When it is negative, not finite, or not 0 and smaller than one unit.
    """
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"{label} must be a number, not {amount!r}")
    if not 0 <= amount < _MOST:  # also refuses nan
        raise ValueError(f"{label} must be 0 or more, not {amount!r}")
    found = round(amount * UNIT)
    if amount and not found:
        raise ValueError(f"{label} must be 0, or at least {1 / UNIT}, not {amount!r}")
    return found


def named_units(resources: object, label: str) -> dict[str, int]:
    """Return resources of the user's own in units, by name and in the order of the names; what is 0 is left out.

    Raises
    ------
    TypeError, ValueError
        When it is no mapping from names to numbers, or a name is that of a resource with an argument of its own.
    """
    if not isinstance(resources, dict):
        raise TypeError(f"{label} must be a dict of names and numbers, not {resources!r}")
    found: dict[str, int] = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"{label} must have names as its keys, not {name!r}")
        if name in BUILT_IN:
            own = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, name)
            raise ValueError(f"{label} must not name {name}: use {own}=")
        found[name] = units(amount, f"{label}[{name!r}]")
    return {name: found[name] for name in sorted(found) if found[name]}


def resource_text(resources: object, label: str) -> str:
    """Return resources of the user's own as the text that a setting has: ``{"license": 2.0}``.

    A text may also be ``license=2,disk=0.5``.

    Raises
    ------
    TypeError, ValueError
        As `named_units`, and when the text is neither.
    """
    if isinstance(resources, str):
        resources = _read(resources, label)
    found = named_units(resources, label)
    return json.dumps({name: amount / UNIT for name, amount in found.items()}) if found else ""


def json_text(mapping: object, label: str) -> str:
    """Return a dict of texts as the text that a setting has; raises TypeError for anything else."""
    if isinstance(mapping, str) and mapping:
        try:
            mapping = json.loads(mapping)
        except ValueError:
            raise ValueError(f"{label}={mapping!r} is not a JSON object of texts") from None
    if mapping == "":
        return ""
    if not isinstance(mapping, dict) or not all(isinstance(one, str) for pair in mapping.items() for one in pair):
        raise TypeError(f"{label} must be a dict of texts, not {mapping!r}")
    return json.dumps(mapping, sort_keys=True) if mapping else ""


def _read(text: str, label: str) -> dict[str, object]:
    wrong = f"{label}={text!r} is not like 'license=2,disk=0.5', nor a JSON object of numbers"
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            raise ValueError(wrong) from None
        return dict(found)
    resources: dict[str, object] = {}
    for part in text.split(","):
        name, given, amount = part.partition("=")
        if not part.strip():
            continue
        try:
            resources[name.strip()] = float(amount)
        except ValueError:
            raise ValueError(wrong) from None
        if not given:
            raise ValueError(wrong)
    return resources


def amount_text(name: str, amount: int) -> str:
    """Return an amount as people write it: ``0.5``, ``2``, and of memory ``1.5 GB``."""
    if name == "memory" and abs(amount) >= UNIT * 1000:
        size = amount / UNIT
        for unit in ("kB", "MB", "GB", "TB"):
            size /= 1000
            if abs(size) < 1000 or unit == "TB":
                return f"{size:.4g} {unit}"
    return f"{amount / UNIT:.10g}"


def amounts_text(amounts: Mapping[str, int]) -> str:
    """Return amounts by name as people write them: ``CPU: 2, license: 0.5``."""
    return ", ".join(f"{name}: {amount_text(name, amount)}" for name, amount in amounts.items()) or "nothing"
