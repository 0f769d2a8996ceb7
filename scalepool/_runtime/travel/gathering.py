"""Reads the files of a module or package that are to be sent."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._proc.git import ignored_paths
from scalepool._runtime.travel.rules import File, is_pruned, largest, select, too_large
from scalepool._wire.bundles import MAIN, Entry, content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scalepool._runtime.travel.rules import Host

__all__ = ["Gathered", "Portion", "gather"]


class Portion(NamedTuple):
    """A module's file, or a package's folder, and the folder that import finds it in."""

    root: str
    path: str


class Gathered(NamedTuple):
    """What is to be sent.

    Attributes
    ----------
    refusal
        Why nothing is; else empty.
    entries
        The files, as others know them.
    sources
        Where each is read; a text is what it consists of.
    left_out
        As in an `Answer`.
    in_place
        Whether all files are named as they are here.
    note
        What the user should know; else empty.
    """

    refusal: str = ""
    entries: Sequence[Entry] = ()
    sources: Sequence[str | bytes] = ()
    left_out: Mapping[str, str] = {}
    in_place: bool = True
    note: str = ""

    def read(self) -> list[bytes] | None:
        """Return the contents; ``None`` when they have changed."""
        contents = []
        for entry, source in zip(self.entries, self.sources, strict=True):
            try:
                content = source if isinstance(source, bytes) else _content(source)
            except OSError:
                return None
            if content_digest(content) != entry.digest:
                return None
            contents.append(content)
        return contents


_SETTLED_NS: Final = 2_000_000_000
"""A file that was written just now may be written again without a sign of it: clocks of file systems are coarse."""
_digests: dict[str, tuple[tuple[int, int, int], str]] = {}
"""Of files, by path, with what tells that one has not changed."""


def gather(name: str, portions: Sequence[Portion], host: Host, limit_bytes: int) -> Gathered:
    """Choose what of a top-level module is sent, and look at it.

    Parameters
    ----------
    name
        Its name.
    portions
        Where it is.
    host, limit_bytes
        As for `rules.select`.
    """
    entries: list[Entry] = []
    sources: list[str | bytes] = []
    left_out: dict[str, str] = {}
    large: list[File] = []
    chosen: list[File] = []
    for number, portion in enumerate(portions):
        is_package = os.path.isdir(portion.path)  # noqa: PTH112 - one module for all of it
        base = portion.path if is_package else portion.root
        files = _walk(base) if is_package else [File(os.path.basename(portion.path), _size(portion.path))]  # noqa: PTH119
        ignored = ignored_paths(base) if is_package else []
        selection = select(files, ignored, _loaded(name, base), host, limit_bytes)
        chosen += selection.chosen
        large += selection.large
        left_out.update({f"{name}/{path}": why for path, why in selection.left_out.items()})
        if refusal := too_large(name, selection._replace(chosen=chosen), limit_bytes):
            return Gathered(refusal)
        for file in selection.chosen:
            source = os.path.join(base, file.path)  # noqa: PTH118
            path = f"{name}/{file.path}" if is_package else name + _suffix(name, file.path)
            try:
                entries.append(_entry(f"{number}/{path}", source))
            except OSError as error:
                left_out[path] = f"it cannot be read ({error.strerror})"
            else:
                sources.append(source)
    for path, content in _metadata(name):
        entries.append(Entry(f"0/{path}", len(content), content_digest(content)))
        sources.append(content)
    in_place = all(os.path.basename(portion.path).partition(".")[0] == name for portion in portions)  # noqa: PTH119
    return Gathered("", entries, sources, left_out, in_place, _note(name, large))


def _suffix(name: str, file: str) -> str:
    # A script may be called anything.
    return ".py" if name == MAIN else file[file.index(".") :]


def _note(name: str, large: Sequence[File]) -> str:
    if not large:
        return ""
    return (
        f"hosts get package {name!r} without its largest data: {largest(large)}. A file that is no code may have an "
        "eighth of SCALEPOOL_CODE_LIMIT_BYTES; put larger ones where all hosts can read them, or pass them as arguments"
    )


def _walk(folder: str) -> Iterator[File]:
    """Return all files of a package that are looked at."""
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        identity = os.path.realpath(here)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(one for one in folders if not is_pruned(one) and _is_looked_into(f"{here}/{one}"))
        for name in names:
            path = os.path.join(here, name)  # noqa: PTH118
            if os.path.isfile(path):  # noqa: PTH113
                yield File(os.path.relpath(path, folder), _size(path))


def _is_looked_into(folder: str) -> bool:
    """Leave alone environments, and links to folders but for packages: they may lead anywhere."""
    if os.path.islink(folder):  # noqa: PTH114
        return os.path.isfile(f"{folder}/__init__.py")  # noqa: PTH113
    return not os.path.exists(f"{folder}/pyvenv.cfg")  # noqa: PTH110


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def _loaded(name: str, base: str) -> set[str]:
    """Return the files below a folder that the program has imported."""
    found = set()
    for module_name, module in list(sys.modules.items()):
        if module_name == name or module_name.startswith(f"{name}."):
            file = getattr(module, "__file__", None)
            if isinstance(file, str):
                found.add(os.path.relpath(os.path.abspath(file), base))  # noqa: PTH100
    return found


def _content(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def _entry(path: str, source: str) -> Entry:
    status = os.stat(source)  # noqa: PTH116
    mark = status.st_size, status.st_mtime_ns, status.st_ino
    known = _digests.get(source)
    if known is None or known[0] != mark:
        content = _content(source)
        known = (len(content), *mark[1:]), content_digest(content)
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            _digests[source] = known
    return Entry(path, known[0][0], known[1], int(bool(status.st_mode & 0o100)))


def _metadata(name: str) -> Iterator[tuple[str, bytes]]:
    """Return what ``importlib.metadata`` knows of a package of this name, such as its version."""
    from importlib import metadata

    try:
        found = metadata.distribution(name)
        folder = f"{found.metadata['Name']}-{found.version}.dist-info"
        texts = {"METADATA": found.read_text("METADATA") or found.read_text("PKG-INFO")}
        texts["entry_points.txt"] = found.read_text("entry_points.txt")
    except (metadata.PackageNotFoundError, OSError, ValueError, KeyError, TypeError):
        return
    if "/" in folder:
        return
    for file, text in texts.items():
        if text:
            yield f"{folder}/{file}", text.encode("utf-8", "surrogateescape")
