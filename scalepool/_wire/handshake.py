"""The first message on a link between hosts: what each side runs, and what of it would not go together.

It is JSON behind a mark, and stays that in all versions: a side that is years older still has to be told from a
stranger, and be told what to install. Everything behind it may change with ``WIRE_VERSION``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_INTRODUCTION_BYTES",
    "Introduction",
    "decode_introduction",
    "differences",
    "encode_introduction",
    "is_introduction",
]

MAX_INTRODUCTION_BYTES: Final = 4096
_MARK: Final = b"scalepool introduction\n"
_TEXTS: Final = ("python", "cloudpickle", "host", "cluster")
_TIMES: Final = ("heartbeat_interval_s", "heartbeat_timeout_s")
_LONGEST_S: Final = 3600.0
_TITLES: Final = {"wire": "protocol", "python": "Python", "cloudpickle": "cloudpickle"}


class Introduction(NamedTuple):
    """What one side of a link is.

    Attributes
    ----------
    wire
        Its version of the protocol.
    python
        As ``"3.11"``: what travels by value has the interpreter's bytecode in it.
    cloudpickle
        As ``"3.1"``: such values are put together by functions of that package.
    host
        As the host calls itself.
    cluster
        The name of the cluster that its key file is of.
    heartbeat_interval_s, heartbeat_timeout_s
        What a head wants on its links: a sign of life this often, given up after this long; 0: nothing said.
    """

    wire: int
    python: str
    cloudpickle: str
    host: str = ""
    cluster: str = ""
    heartbeat_interval_s: float = 0.0
    heartbeat_timeout_s: float = 0.0


def encode_introduction(introduction: Introduction) -> bytes:
    """Return it as bytes; names that are too long are cut."""
    fields = {name: value[:255] if isinstance(value, str) else value for name, value in introduction._asdict().items()}
    return _MARK + json.dumps(fields).encode()


def is_introduction(data: bytes) -> bool:
    """Whether that is meant to be one."""
    return data.startswith(_MARK)


def decode_introduction(data: bytes) -> Introduction:
    """Read what ``encode_introduction`` wrote, in whatever version; fields that are not known here are left out.

    Raises
    ------
    ProtocolError
        When it is none.
    """
    if not data.startswith(_MARK) or len(data) > MAX_INTRODUCTION_BYTES:
        raise ProtocolError("the first message on a link between hosts was no introduction")
    try:
        fields = json.loads(data[len(_MARK) :])
        wire = fields["wire"]
        if type(wire) is not int:
            raise TypeError
        texts = {name: fields.get(name, "") for name in _TEXTS}
        times_s = {name: fields.get(name, 0.0) for name in _TIMES}
        if not all(isinstance(text, str) and text.isprintable() for text in texts.values()):
            raise TypeError
        if not all(type(time_s) in (int, float) and 0.0 <= time_s <= _LONGEST_S for time_s in times_s.values()):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ProtocolError("the first message on a link between hosts cannot be read") from None
    return Introduction(wire, **texts, **times_s)


def differences(sides: Sequence[tuple[str, Introduction]]) -> str:
    """Return, as a table with a row for each of two sides, what would not go together; empty when all does.

    Parameters
    ----------
    sides
        What to call each side, and what it is.
    """
    (_, one), (_, other) = sides
    differing = [name for name in _TITLES if getattr(one, name) != getattr(other, name)]
    if not differing:
        return ""
    columns = [["", *(label for label, _ in sides)]]
    columns += [[_TITLES[name], *(str(getattr(side, name)) for _, side in sides)] for name in differing]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
