"""Which modules a worker can import by name, and how.

Plain pickle and cloudpickle both take ``name in sys.modules`` for proof that a receiver can import the module. That is
wrong for ``__main__``, for modules made with ``types.ModuleType`` and for files loaded under an invented name
(``spec_from_file_location``): what is defined there has to travel by value. It is also wrong for a module whose folder
is not, or no longer, on the path that the workers have (``sys.path`` changed later, a relative entry and another
working directory): its pickles begin with directions, see ``elsewhere``.

The check must be cheap, because the plain pickle of every value is compared with the result: verdicts are remembered
per module, and most need only string comparisons.
"""

from __future__ import annotations

import posixpath
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

from scalepool._wire.pickling.elsewhere import ElsewhereFinder, ReloadWatcher, directions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ByValueModules", "by_value_modules", "is_importable"]

# ``__mp_main__`` is what multiprocessing calls the main module in its own children.
_MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
# Plain pickle takes an end of a pipe for a number, and the reader would close whatever has that number there.
_CONNECTION = "multiprocessing.connection"


_NOTHING: frozenset[str] = frozenset()
_INSTALLED = ("site-packages", "dist-packages", posixpath.dirname(posixpath.__file__ or ""))
_BY_NAME = ""
"""A verdict: ``import`` finds it. Another text is the folder to look in, ``None``: it travels by value."""


def _registered() -> set[str] | frozenset[str]:
    """Return what the user told cloudpickle to take by value: nothing as long as nobody has imported it."""
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    if cloudpickle is None:
        return _NOTHING
    # The set itself where it is to be had: the public function copies it, and this is asked for every call.
    found: set[str] | None = getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", None)
    return cloudpickle.list_registry_pickle_by_value() if found is None else found


class ByValueModules:
    """The modules of this process that travel by value, recomputed only when modules came or went."""

    __slots__ = (
        "_count",
        "_elsewhere",
        "_names",
        "_needles",
        "_path",
        "_registered",
        "_verdicts",
        "reloads",
        "version",
    )

    def __init__(self) -> None:
        self._count = -1
        self._registered: frozenset[str] = frozenset()
        self._names: frozenset[str] = frozenset(_MAIN_NAMES)
        self._needles: tuple[bytes, ...] = ()
        self._elsewhere: dict[bytes, tuple[str, tuple[str, ...]]] = {}
        self._path: frozenset[str] | None = None
        self._verdicts: dict[str, tuple[int, str | None]] = {}
        self.version = 0
        """Grows whenever what a pickle has to tell may have changed."""
        self.reloads: dict[str, int] = {}
        """How often each module was reloaded since workers may have imported it."""

    def look_from(self, cwd: str, path: Sequence[str]) -> None:
        """Note the working directory and ``sys.path`` that workers will have, beside those they have been given."""
        entries = frozenset(_absolute(entry, cwd) for entry in path)
        if self._path is None:
            sys.meta_path.insert(0, ReloadWatcher(self.note_reload))
            if "IPython" in sys.modules:
                from scalepool._wire.pickling.reloading import watch_patches

                watch_patches(self.note_reload)
        else:
            entries &= self._path
        if entries != self._path:
            self._path = entries
            self._verdicts.clear()
            self._count = -1
            self.version += 1

    def note_reload(self, name: str, times: int | None = None) -> None:
        """A module was reloaded, once more or for the ``times``-th time: workers have to do so, too."""
        self.reloads[name] = self.reloads.get(name, 0) + 1 if times is None else times
        self._count = -1
        self.version += 1

    def names(self) -> frozenset[str]:
        """Return the names of all modules that a worker could not import."""
        registered = _registered() if "cloudpickle.cloudpickle" in sys.modules else _NOTHING
        if len(sys.modules) != self._count or registered != self._registered:
            modules = sys.modules.copy()
            verdicts = {name: self._verdict(name, module) for name, module in modules.items()}
            by_value = {name for name, verdict in verdicts.items() if verdict is None}
            self._names = _MAIN_NAMES | registered | by_value
            reloads = tuple(f"{name} {times}" for name, times in self.reloads.items())
            self._elsewhere = {
                _encoded(name): (place, reloads)
                for name, place in verdicts.items()
                if place or (reloads and place is not None and (name in self.reloads or _is_edited(modules[name])))
            }
            wanted = [*self._names, _CONNECTION] if _CONNECTION in modules else self._names
            self._needles = (*map(_encoded, wanted), *self._elsewhere)
            self._registered = frozenset(registered)
            self._count = len(modules)
        return self._names

    def mentioned_in(self, data: bytes) -> bool:
        """Tell whether a plain pickle mentions such a module, or what else is not to be sent just so.

        A false positive costs time, nothing else.
        """
        self.names()
        for needle in self._needles:  # noqa: SIM110 - any() with a generator costs as much as pickling
            if needle in data:
                return True
        return False

    def directed(self, data: bytes) -> bytes:
        """Return a pickle that begins by telling what its reader has to know of the modules that it mentions."""
        known = [facts for name, facts in self._elsewhere.items() if name in data]
        if not known:
            return data
        return directions(dict.fromkeys(place for place, _ in known if place), known[0][1]) + data[2:]

    def needs_only_directions(self, data: bytes) -> bool:
        """Tell whether a plain pickle that mentions modules mentions none that travels by value."""
        elsewhere = self._elsewhere
        return bool(elsewhere) and not any(name in data for name in self._needles if name not in elsewhere)

    def _verdict(self, name: str, module: object) -> str | None:
        remembered = self._verdicts.get(name)
        if remembered is not None and remembered[0] == id(module):
            return remembered[1]
        verdict = self._judge(name, module)
        self._verdicts[name] = (id(module), verdict)
        return verdict

    def _judge(self, name: str, module: object) -> str | None:
        if self._path is None:
            return _BY_NAME if is_importable(name, module) else None
        spec = _spec_of(module)
        if name in _MAIN_NAMES or spec is None or not spec.has_location or spec.origin is None:
            return _BY_NAME if is_importable(name, module) else None
        parent = name.rpartition(".")[0]
        if _lies_on_path(name, spec, _search_path(parent) if parent else self._path):
            # A part of a package is found where the package is.
            return self._verdict(parent, sys.modules.get(parent)) if parent else _BY_NAME
        if _found_by_import(name, spec.origin, on_path=False):
            return _BY_NAME
        root = _split(_split(spec.origin)[0])[0] if spec.submodule_search_locations else _split(spec.origin)[0]
        is_alone = not parent and _lies_on_path(name, spec, {root}) and root.startswith("/")
        # A namesake that import finds first would be taken for it.
        return root if is_alone and PathFinder.find_spec(name, [*self._path]) is None else None


def _is_edited(module: object) -> bool:
    """Tell modules that a user may be working on, and which may use others of that kind, from what is installed."""
    spec = _spec_of(module)
    origin = spec.origin if spec is not None and spec.has_location else None
    is_ours = spec is not None and spec.name.partition(".")[0] == "scalepool"
    return origin is not None and not is_ours and not any(place in origin for place in _INSTALLED)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _absolute(entry: str, cwd: str) -> str:
    return posixpath.normpath(posixpath.join(cwd, entry))


def _spec_of(module: object) -> ModuleSpec | None:
    spec = module.__dict__.get("__spec__") if isinstance(module, ModuleType) else None
    return spec if isinstance(spec, ModuleSpec) else None


_modules = ByValueModules()


def by_value_modules() -> ByValueModules:
    """Return the one record of this process."""
    return _modules


def is_importable(name: str, module: object) -> bool:
    """Tell whether ``import name`` in a worker with the same ``sys.path`` would find this module.

    Parameters
    ----------
    name
        Key in ``sys.modules``.
    module
        The value there; things that are no modules (lazy stand-ins, ``None``) count as importable, because only
        an import can have put them there.
    """
    if name in _MAIN_NAMES:
        return False
    if not isinstance(module, ModuleType) or name in sys.builtin_module_names:
        return True
    spec = _spec_of(module)
    if spec is None:
        return _found_by_import(name, None)
    if not spec.has_location or spec.origin is None:
        # Built-in, frozen and namespace packages have no location; a spec without any loader was made by hand.
        return spec.loader is not None or bool(spec.submodule_search_locations) or _found_by_import(name, None)
    path = _search_path(name.rpartition(".")[0])
    return _lies_on_path(name, spec, path) or _found_by_import(name, spec.origin)


def _lies_on_path(name: str, spec: ModuleSpec, path: Iterable[str]) -> bool:
    """Tell, by comparing strings only, whether the file is where the path finder would look for the name."""
    tail = name.rpartition(".")[2]
    directory, file = _split(spec.origin or "")
    if spec.submodule_search_locations is not None:
        directory, file = _split(directory)
        file += "."
    # Python 3.10 keeps the dot of a relative entry: "/folder/./name.py".
    return file.startswith(tail + ".") and (directory in path or posixpath.normpath(directory) in path)


def _found_by_import(name: str, origin: str | None, *, on_path: bool = True) -> bool:
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules:
        return False
    path = list(_search_path(parent)) if parent else None
    for finder in sys.meta_path:
        if isinstance(finder, ElsewhereFinder) or (finder is PathFinder and not on_path):
            continue
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # noqa: BLE001 - a foreign import hook that fails does not find the module
            spec = None
        if spec is not None:
            return origin is None or spec.origin == origin
    return False


def _search_path(parent: str) -> Iterable[str]:
    if not parent:
        return sys.path
    path: Iterable[str] = getattr(sys.modules.get(parent), "__path__", ())
    return path


def _split(path: str) -> tuple[str, str]:
    cut = max(path.rfind("/"), path.rfind("\\"))
    return path[: max(cut, 0)], path[cut + 1 :]
