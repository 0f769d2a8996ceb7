"""Which modules a worker can import by name.

Plain pickle and cloudpickle both take ``name in sys.modules`` for proof that a receiver can import the module. That is
wrong for ``__main__``, for modules made with ``types.ModuleType`` and for files loaded under an invented name
(``spec_from_file_location``): what is defined there has to travel by value. The check must be cheap, because the
plain pickle of every value is compared with the result: verdicts are remembered per module, and most need only string
comparisons.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ByValueModules", "by_value_modules", "is_importable"]

# ``__mp_main__`` is what multiprocessing calls the main module in its own children.
_MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
# Plain pickle takes an end of a pipe for a number, and the reader would close whatever has that number there.
_CONNECTION = "multiprocessing.connection"


_NOTHING: frozenset[str] = frozenset()


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

    __slots__ = ("_count", "_names", "_needles", "_registered", "_verdicts")

    def __init__(self) -> None:
        self._count = -1
        self._registered: frozenset[str] = frozenset()
        self._names: frozenset[str] = frozenset(_MAIN_NAMES)
        self._needles: tuple[bytes, ...] = ()
        self._verdicts: dict[str, tuple[int, bool]] = {}

    def names(self) -> frozenset[str]:
        """Return the names of all modules that a worker could not import."""
        registered = _registered()
        if len(sys.modules) != self._count or registered != self._registered:
            modules = sys.modules.copy()
            self._names = _MAIN_NAMES | registered | {n for n, m in modules.items() if not self._verdict(n, m)}
            wanted = [*self._names, _CONNECTION] if _CONNECTION in modules else self._names
            self._needles = tuple(name.encode("utf-8", "surrogatepass") for name in wanted)
            self._registered = frozenset(registered)
            self._count = len(modules)
        return self._names

    def mentioned_in(self, data: bytes) -> bool:
        """Tell whether a plain pickle mentions such a module, or what else only our pickler gets right.

        A false positive costs time, nothing else.
        """
        self.names()
        for needle in self._needles:  # noqa: SIM110 - any() with a generator costs as much as pickling
            if needle in data:
                return True
        return False

    def _verdict(self, name: str, module: object) -> bool:
        remembered = self._verdicts.get(name)
        if remembered is not None and remembered[0] == id(module):
            return remembered[1]
        verdict = is_importable(name, module)
        self._verdicts[name] = (id(module), verdict)
        return verdict


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
    spec = module.__dict__.get("__spec__")
    if spec is None or not isinstance(spec, ModuleSpec):
        return _found_by_import(name, None)
    if not spec.has_location or spec.origin is None:
        # Built-in, frozen and namespace packages have no location; a spec without any loader was made by hand.
        return spec.loader is not None or bool(spec.submodule_search_locations) or _found_by_import(name, None)
    return _lies_on_path(name, spec) or _found_by_import(name, spec.origin)


def _lies_on_path(name: str, spec: ModuleSpec) -> bool:
    """Tell, by comparing strings only, whether the file is where the path finder would look for the name."""
    parent, _, tail = name.rpartition(".")
    directory, file = _split(spec.origin or "")
    if spec.submodule_search_locations is not None:
        directory, file = _split(directory)
        file += "."
    return file.startswith(tail + ".") and directory in _search_path(parent)


def _found_by_import(name: str, origin: str | None) -> bool:
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules:
        return False
    path = list(_search_path(parent)) if parent else None
    for finder in sys.meta_path:
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
