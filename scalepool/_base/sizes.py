"""Sizes as people write them."""

from __future__ import annotations

__all__ = ["size_bytes"]

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _UNITS[_letter] = _UNITS[_letter + "ib"] = 1024**_power
    _UNITS[_letter + "b"] = 1000**_power


def size_bytes(size: object, label: str) -> int:
    """Return a size in bytes, at least 1.

    Parameters
    ----------
    size
        A whole number, or text such as ``"500MB"``, ``"2 GB"``, ``"1.5GiB"``. ``KB`` to ``TB`` are powers of 1000,
        ``KiB`` to ``TiB`` and the letters alone powers of 1024; small letters will do.
    label
        Names it in errors.

    Raises
    ------
    TypeError
        When it is neither.
    ValueError
        When the text is no size, or it is below one byte.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(f"{label} must be a number of bytes or a text such as '2GB', not {size!r}")
    if isinstance(size, int):
        found = size
    else:
        text = size.strip().lower()
        number = text.rstrip("bikmgt ")
        unit = _UNITS.get(text[len(number) :].strip())
        try:
            found = int(float(number) * (unit or 0))
        except (ValueError, OverflowError):
            unit, found = None, 0
        if unit is None:
            raise ValueError(f"{label} must be a number of bytes or a text such as '2GB', not {size!r}")
    if found < 1:
        raise ValueError(f"{label} must be at least one byte, not {size!r}")
    return found
