"""What a pickle tells the worker that reads it about the modules that it mentions.

Modules in folders that are not on the path of the workers:

The driver may have imported a module from a folder that left ``sys.path`` since, joined it after the workers were told,
or was given relative to a working directory that has changed. The file is there, so the module need not travel by
value: a pickle that mentions it begins with a call that tells the reader in which folder to look, after everywhere
else.

Modules that were reloaded (``importlib.reload``, IPython's ``%autoreload``) after workers had imported them: a pickle
that mentions any of the user's modules, which may use them, tells how often, and a worker that is behind reloads its
own.
"""

from __future__ import annotations

import struct
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scalepool._wire.pickling.exchange import Exchange

__all__ = ["ElsewhereFinder", "ReloadWatcher", "directions", "look_in", "refresh"]


class ElsewhereFinder:
    """Looks for top-level modules in the folders that pickles named; the last of ``sys.meta_path``."""

    __slots__ = ("_directories",)

    def __init__(self) -> None:
        self._directories: list[str] = []

    def add(self, directory: str) -> None:
        """Look there, too."""
        if directory not in self._directories:
            self._directories.append(directory)

    def find_spec(self, name: str, path: Any = None, target: object = None) -> ModuleSpec | None:
        """Find a module; see ``importlib.abc.MetaPathFinder``."""
        return None if path is not None else PathFinder.find_spec(name, self._directories)


class ReloadWatcher:
    """Sees every ``importlib.reload`` in this process, as the first of ``sys.meta_path``; finds nothing.

    Parameters
    ----------
    on_reload
        Called with the module's name.
    """

    __slots__ = ("_on_reload",)

    def __init__(self, on_reload: Callable[[str], None]) -> None:
        self._on_reload = on_reload

    def find_spec(self, name: str, path: Any = None, target: object = None) -> None:
        """Note the name if this is a reload, of which alone there is a target."""
        if target is not None:
            self._on_reload(name)


def look_in(*directories: str) -> None:
    """Have modules that are nowhere else imported from there: called by a pickle that is being read in a worker."""
    if _current().namespaces.has_own_main:
        return  # the driver, whose modules they are
    finder = next((finder for finder in sys.meta_path if isinstance(finder, ElsewhereFinder)), None)
    if finder is None:
        finder = ElsewhereFinder()
        sys.meta_path.append(finder)
    for directory in directories:
        finder.add(directory)


def refresh(*modules: str) -> None:
    """Reload modules that the driver has reloaded more often, in the form ``"name 3"``: called as `look_in` is."""
    if _current().namespaces.has_own_main:
        return
    from scalepool._wire.pickling.importable import by_value_modules

    known = by_value_modules().reloads
    for text in modules:
        name, _, times = text.rpartition(" ")
        if int(times) > known.get(name, 0):
            if name in sys.modules:
                from scalepool._wire.pickling.reloading import reload_in_place

                reload_in_place(sys.modules[name])
            by_value_modules().note_reload(name, int(times))  # afterwards: this process has a watcher, too


def directions(directories: Iterable[str], reloaded: Iterable[str]) -> bytes:
    """Return the beginning of a pickle, in place of the two bytes that name its protocol."""
    return b"\x80\x05" + _call(look_in, directories) + _call(refresh, reloaded)


def _call(function: Callable[..., None], texts: Iterable[str]) -> bytes:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    if not encoded:
        return b""
    arguments = b"".join(b"X" + struct.pack("<I", len(text)) + text for text in encoded)
    return f"c{__name__}\n{function.__name__}\n(".encode() + arguments + b"tR0"  # what it returned is dropped


def _current() -> Exchange:
    from scalepool._wire.pickling.exchange import current

    return current()
