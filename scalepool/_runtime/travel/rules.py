"""Which code is the program's own, and what of a package is sent. Pure: names, sizes and texts in, decisions out."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["File", "Host", "Selection", "is_local", "is_pruned", "select", "size_text", "too_large"]

DATA_SHARE: Final = 8
"""A file that is no code may take this part of what a whole package may."""
_SITES: Final = frozenset({"site-packages", "dist-packages"})
_NEVER_FOLDERS: Final = frozenset({"__pycache__", "node_modules"})
_NEVER_SUFFIXES: Final = (".pyc", ".pyo", ".egg-info", ".swp", "~")
_COMPILED: Final = (".so", ".pyd", ".dylib", ".dll")
_SHOWN: Final = 5


class File(NamedTuple):
    """A file below a package's folder; its path there, with slashes."""

    path: str
    size_bytes: int


class Host(NamedTuple):
    """What can be imported on the host that asks.

    Attributes
    ----------
    suffixes
        Of compiled modules for this Python.
    is_same
        Whether it has the platform of the program's host.
    """

    suffixes: Sequence[str]
    is_same: bool


class Selection(NamedTuple):
    """What of a package is sent.

    Attributes
    ----------
    chosen
        In order of their paths.
    left_out
        Why code is not sent, by path.
    large
        Data that is not sent for its size.
    """

    chosen: Sequence[File]
    left_out: Mapping[str, str]
    large: Sequence[File]

    @property
    def size_bytes(self) -> int:
        """All that is sent."""
        return sum(file.size_bytes for file in self.chosen)


def is_local(path: str, installed: Iterable[str]) -> bool:
    """Tell whether a file or folder is the user's own, and not of the interpreter or of an installed package.

    Parameters
    ----------
    path
        Absolute.
    installed
        Folders of the standard library and of what is installed. An editable installation is in none of them.
    """
    if not _SITES.isdisjoint(path.split("/")):
        return False
    return not any(path.startswith(place.rstrip("/") + "/") for place in installed if place)


def is_pruned(folder: str) -> bool:
    """Tell whether a folder of this name is not even looked into."""
    return folder.startswith(".") or folder in _NEVER_FOLDERS or folder.endswith(".egg-info")


def select(
    files: Iterable[File], ignored: Iterable[str], loaded: Iterable[str], host: Host, limit_bytes: int
) -> Selection:
    """Choose what of a package is sent.

    Parameters
    ----------
    files
        All that there are.
    ignored
        What git ignores: paths of files, and of folders with a slash at the end.
    loaded
        What the program has imported: that is sent though git ignores it, as a version file or an extension that was
        built in place.
    host
        Who asks.
    limit_bytes
        What the whole may take.
    """
    names, folders = set(), []
    for path in ignored:
        if path.endswith("/"):
            folders.append(path)
        else:
            names.add(path)
    used = frozenset(loaded)
    below = tuple(folders)
    chosen: list[File] = []
    left_out: dict[str, str] = {}
    large: list[File] = []
    for file in sorted(files):
        name = posixpath.basename(file.path)
        is_compiled = name.endswith(_COMPILED)
        is_code = is_compiled or name.endswith(".py")
        if name.startswith(".") or name.endswith(_NEVER_SUFFIXES):
            continue
        if (file.path in names or file.path.startswith(below)) and file.path not in used:
            if is_code:
                left_out[file.path] = "git ignores it"
        elif is_compiled and not _fits(name, host):
            left_out[file.path] = "it is compiled for another platform or Python than that host has"
        elif not is_code and file.size_bytes > limit_bytes // DATA_SHARE:
            large.append(file)
        else:
            chosen.append(file)
    return Selection(chosen, left_out, large)


def _fits(name: str, host: Host) -> bool:
    if not host.is_same:
        return False
    # A plain library, which no import looks for, has no tag; a module has one that says for whom it is.
    tag = name.partition(".")[2]
    return "cpython-" not in tag or f".{tag}" in host.suffixes


def too_large(name: str, selection: Selection, limit_bytes: int) -> str | None:
    """Return why a package is not sent when it takes more than it may, else ``None``."""
    if selection.size_bytes <= limit_bytes:
        return None
    return (
        f"{name!r} has {size_text(selection.size_bytes)} and at most {size_text(limit_bytes)} of a package are sent. "
        f"Its largest files are {largest(selection.chosen)}. Raise the limit (SCALEPOOL_CODE_LIMIT_BYTES, before the "
        "session starts), have git ignore what hosts do not need, or install the package there"
    )


def largest(files: Iterable[File]) -> str:
    """Return the names of the largest files, with their sizes."""
    shown = sorted(files, key=lambda file: -file.size_bytes)[:_SHOWN]
    return ", ".join(f"{file.path} ({size_text(file.size_bytes)})" for file in shown)


def size_text(size_bytes: int) -> str:
    """Return a size as people write it."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 10 or size == int(size) else f"{size:.1f} {unit}"
