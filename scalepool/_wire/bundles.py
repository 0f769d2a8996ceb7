"""Code that is sent to hosts that lack it: what a bundle consists of, and how it becomes bytes and files again.

A *bundle* is one top-level module or package, known by a digest of all that is in it. Its parts are named
``number/path``: a namespace package may lie in several folders, and each is a *root* with its number.
"""

from __future__ import annotations

import json
import zlib

# Where hashlib has it from; that would load OpenSSL.
from _blake2 import blake2b
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "GIVE_UP_S", "HERE", "INSTALLED", "MAIN", "MISSING", "REFUSED", "Answer", "Entry", "Question", "add_part",
    "bundle_digest", "check_path", "content_digest", "is_metadata", "pack", "part_of", "unpack",
]  # fmt: skip

HERE: Final = "here"
"""The program has it as code of its own, which can be sent."""
INSTALLED: Final = "installed"
"""The program has it from its interpreter or from site-packages: hosts have their own, or should."""
MISSING: Final = "missing"
"""The program does not have it either."""
REFUSED: Final = "refused"
"""The program has it, and it cannot be sent."""

MAIN: Final = "__main__"
"""The name of the program's script, of which only the text is wanted: it is never imported anywhere."""

GIVE_UP_S: Final = 120.0
"""A program that does not answer for so long is taken for dead or stopped."""

_PART_BYTES: Final = 1 << 20
_MORE: Final = b"\1"
_LAST: Final = b"\0"
_DIGEST_BYTES: Final = 16
_LEVEL: Final = 1
"""Of compression: the fastest has most of the gain, for text."""


class Entry(NamedTuple):
    """A file of a bundle; ``executable`` is 1 for what may be run."""

    path: str
    size_bytes: int
    digest: str
    executable: int = 0


class Question(NamedTuple):
    """What a host asks the program.

    Attributes
    ----------
    name
        A top-level module.
    platform
        As ``sysconfig.get_platform()`` says it there: what is compiled runs on the same only.
    fresh
        1: as it is at this moment, since it was edited.
    digest, offset
        Of the bundle that a part is wanted of, and where that begins; without a digest the question is where the
        module is to be had.
    """

    name: str
    platform: str = ""
    fresh: int = 0
    digest: str = ""
    offset: int = 0

    def encode(self) -> bytes:
        """Return it as bytes."""
        return json.dumps(list(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Question:
        """Read what ``encode`` wrote.

        Raises
        ------
        ProtocolError
            When it makes no sense.
        """
        values = _loaded(data, list)
        kinds = (str, str, int, str, int)
        if len(values) != len(kinds) or not all(map(isinstance, values, kinds)):
            raise ProtocolError("not a question about code")
        return cls._make(values)


class Answer(NamedTuple):
    """What the program says of a top-level module.

    Attributes
    ----------
    verdict
        One of the constants above.
    reason
        Why it is not sent.
    roots
        Folders of the program's host that it was found in.
    entries
        The files of its bundle.
    left_out
        Files that could be imported and are not sent, by path, with the reason.
    namespace
        Whether it is a namespace package.
    in_place
        Whether the roots are what import would look into, so that a host which has the same there needs nothing.
    """

    verdict: str
    reason: str = ""
    roots: Sequence[str] = ()
    entries: Sequence[Entry] = ()
    left_out: Mapping[str, str] = {}
    namespace: bool = False
    in_place: bool = True

    @property
    def digest(self) -> str:
        """What names the bundle."""
        return bundle_digest(self.entries)

    def encode(self) -> bytes:
        """Return it as bytes."""
        return json.dumps([*self[:3], [list(entry) for entry in self.entries], *self[4:]]).encode()

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Read what ``encode`` wrote.

        Raises
        ------
        ProtocolError
            When it makes no sense, or a path leads out of the bundle.
        """
        values = _loaded(data, list)
        kinds = (str, str, list, list, dict, bool, bool)
        if len(values) != len(kinds) or not all(map(isinstance, values, kinds)):
            raise ProtocolError("not an answer about code")
        entries = [_entry(one, len(values[2])) for one in values[3]]
        return cls._make([*values[:3], entries, *values[4:]])


def _loaded(data: bytes, kind: type) -> Any:
    try:
        values = json.loads(data)
    except ValueError as error:
        raise ProtocolError(f"not about code: {error}") from None
    if not isinstance(values, kind):
        raise ProtocolError("not about code")
    return values


def _entry(values: object, roots: int) -> Entry:
    kinds = (str, int, str, int)
    if not isinstance(values, list) or len(values) != len(kinds) or not all(map(isinstance, values, kinds)):
        raise ProtocolError("not a file of a bundle")
    entry = Entry(*values)
    check_path(entry.path, roots)
    if entry.size_bytes < 0:
        raise ProtocolError(f"{entry.path!r} has {entry.size_bytes} bytes")
    return entry


def check_path(path: str, roots: int) -> None:
    """Make sure that a file of a bundle with so many roots lies inside of it.

    Raises
    ------
    ProtocolError
        When it does not.
    """
    number, *parts = path.split("/")
    is_inside = parts and not {"", ".", ".."}.intersection(parts) and "\\" not in path and "\0" not in path
    if not is_inside or not (number.isascii() and number.isdecimal()) or int(number) >= roots:
        raise ProtocolError(f"{path!r} is no path inside of a bundle")


def is_metadata(path: str) -> bool:
    """Tell what is said of a package (``importlib.metadata``) from what is in it."""
    return path.partition("/")[2].partition("/")[0].endswith(".dist-info")


def content_digest(data: bytes) -> str:
    """Return what a file with this content is known by."""
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def bundle_digest(entries: Sequence[Entry]) -> str:
    """Return what a bundle of these files is known by, in whatever order they are given."""
    return content_digest(json.dumps(sorted(list(entry) for entry in entries)).encode())


def pack(contents: Sequence[bytes]) -> bytes:
    """Return the contents of a bundle's files, in the order of its entries, as they travel."""
    return zlib.compress(b"".join(contents), _LEVEL)


def part_of(body: bytes, offset: int) -> bytes:
    """Return what is sent of a bundle that is fetched from ``offset`` on: whether more follows, then some of it."""
    end = offset + _PART_BYTES
    return (_MORE if end < len(body) else _LAST) + body[offset:end]


def add_part(body: bytes, part: bytes) -> tuple[bytes, bool]:
    """Return what has come of a bundle, with this part, and whether that is all.

    Raises
    ------
    ProtocolError
        When there is no such bundle (any more).
    """
    if part[:1] not in (_MORE, _LAST):
        raise ProtocolError("the bundle is gone")
    return body + part[1:], part[:1] == _LAST


def unpack(entries: Sequence[Entry], body: bytes) -> Iterator[tuple[Entry, bytes]]:
    """Return each file with its content.

    Raises
    ------
    ProtocolError
        When the content is not what the entries say.
    """
    total = sum(entry.size_bytes for entry in entries)
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(body, total + 1)  # never more than was said
    except zlib.error as error:
        raise ProtocolError(f"a bundle of code came damaged: {error}") from None
    if len(data) != total:
        raise ProtocolError(f"a bundle of code has not the {total} bytes that it should")
    start = 0
    for entry in entries:
        content = data[start : start + entry.size_bytes]
        if content_digest(content) != entry.digest:
            raise ProtocolError(f"{entry.path!r} is not what it should be")
        yield entry, content
        start += entry.size_bytes
