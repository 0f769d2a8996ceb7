"""When the pickle of a function that was made before may be used again.

Pickling a function by value costs hundreds of microseconds, and a user may pass the same lambda in every call. Its
pickle is still good as long as all that went into it is the same: code, defaults, closure, attributes and the globals
it mentions, and theirs in turn. That can be told cheaply only when these are things that change by being replaced;
with a dict or an instance among them the answer is "cannot tell", and the function is pickled again.

Walking through all of that costs microseconds, which is much for a call that costs few. So for the commonest functions
(no classes that travel by value, no partials) a fingerprint also knows all the bindings it was made from, and `holds`
compares just those, by identity.
"""

from __future__ import annotations

import functools
import re
import sys
from enum import Enum
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from scalepool._wire.pickling.culprit import global_names
from scalepool._wire.pickling.exchange import current
from scalepool._wire.pickling.importable import by_value_modules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._wire.pickling.exchange import Exchange

__all__ = ["Fingerprint", "function_fingerprint"]

_ABSENT: Final = object()
_by_value_names: Final = by_value_modules().names

# A chain of functions longer than this is pickled again rather than followed.
MAX_DEPTH = 12
MAX_PARTS = 500

_SCALARS = frozenset({
    type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented), re.Pattern,
    BuiltinFunctionType, CodeType,
})  # fmt: skip
# What the __repr__ of every dataclass closes over: a set that is empty but while it runs.
_REPR_GUARD = "repr_running"
_FRESH = frozenset({MethodType})
_LRU_CACHE = type(functools.lru_cache(abs))


class Fingerprint:
    """A key for a cache of pickles.

    Two are equal when they were made from the same parts. The parts are held alive, so that as long as a cache holds
    the one, no new object can take the place (the id) of any of them.
    """

    __slots__ = ("_bindings", "_key", "_parts")

    def __init__(self, key: tuple[object, ...], parts: tuple[object, ...], bindings: _Bindings | None) -> None:
        self._key = key
        self._parts = parts
        self._bindings = bindings

    def holds(self) -> bool:
        """Tell whether all is certainly as it was; ``False`` may also mean that only another walk can tell."""
        return self._bindings is not None and self._bindings.hold()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<Fingerprint of {len(self._parts)} parts>"


class _Bindings:
    """The places that the parts of a function were found in, and what was found there."""

    __slots__ = ("_by_value", "_cells", "_exchange", "_functions", "_names", "_version")

    def __init__(self, exchange: Exchange, by_value: frozenset[str]) -> None:
        self._exchange = exchange
        self._version = 0
        self._by_value = by_value
        self._functions: list[tuple[FunctionType, CodeType, object]] = []
        self._names: list[tuple[Mapping[str, Any], str, object]] = []
        self._cells: list[tuple[CellType, object]] = []

    def function(self, function: FunctionType) -> None:
        """Note what a function is made of, but for its globals and cells."""
        self._functions.append((function, function.__code__, function.__defaults__))

    def name(self, namespace: Mapping[str, Any], name: str) -> None:
        """Note what stands under a name in a module, or that nothing does."""
        self._names.append((namespace, name, namespace.get(name, _ABSENT)))

    def cell(self, cell: CellType) -> None:
        """Note what a closure's cell holds."""
        self._cells.append((cell, _content(cell)))

    def seal(self) -> None:
        """All is noted: from now on tokens must not change either."""
        self._version = self._exchange.ledger.version

    def hold(self) -> bool:
        """Tell whether everything is as it was noted."""
        exchange = self._exchange
        if exchange is not current() or exchange.ledger.version != self._version:
            return False
        if _by_value_names() is not self._by_value:
            return False
        for function, code, defaults in self._functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
            if function.__dict__ or function.__kwdefaults__ is not None:  # see _is_bare
                return False
        for namespace, name, value in self._names:
            if namespace.get(name, _ABSENT) is not value:
                return False
        for cell, content in self._cells:  # noqa: SIM110 - any() with a generator costs as much as all the rest
            if _content(cell) is not content:
                return False
        return True


class _Unknown(Exception):  # no error: a way out of the recursion
    """Something mutable is captured."""


def function_fingerprint(function: object) -> Fingerprint | None:
    """Return a key under which a pickle of this callable may be cached.

    Parameters
    ----------
    function
        A function, class, builtin, ``functools.partial`` or ``lru_cache`` of such.

    Returns
    -------
    Fingerprint | None
        ``None`` when it captures something that may change without being replaced; pickle it again then.
    """
    walk = _Walk()
    try:
        walk.add(function, 0)
    except _Unknown:
        return None
    if walk.bindings is not None:
        walk.bindings.seal()
    return Fingerprint(tuple(walk.key), tuple(walk.parts), walk.bindings)


class _Walk:
    """Collects ids (or tokens) of all parts in a fixed order."""

    __slots__ = ("_by_value", "_exchange", "_seen", "bindings", "key", "parts")

    def __init__(self) -> None:
        self.key: list[object] = []
        self.parts: list[object] = []
        self._seen: set[int] = set()
        self._by_value = by_value_modules().names()
        self.key.append(by_value_modules().version)
        self._exchange = current()
        self.bindings: _Bindings | None = _Bindings(self._exchange, self._by_value)
        """``None`` as soon as a part was met whose bindings are too many to note."""

    def add(self, value: Any, depth: int) -> None:
        """Add a value and what it consists of, or raise `_Unknown`."""
        if type(value) in _FRESH:
            # Made anew at each access (``Class.method``), so only what is inside has a lasting id.
            self._add_compound(value, depth + 1)
            return
        self.key.append(id(value))
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        self.parts.append(value)
        if depth > MAX_DEPTH or len(self.parts) > MAX_PARTS:
            raise _Unknown
        if type(value) in _SCALARS:
            return
        if isinstance(value, FunctionType):
            if not self._travels_by_name(value):
                self._add_function(value, depth + 1)
        elif isinstance(value, type):
            if not self._travels_by_name(value):
                self.bindings = None
                self._add_class(value, depth + 1)
        elif isinstance(value, ModuleType):
            if value.__name__ in self._by_value and value.__name__ != "__main__":
                raise _Unknown
        else:
            self._add_compound(value, depth + 1)

    def _add_compound(self, value: Any, depth: int) -> None:
        kind = type(value)
        parts: tuple[object, ...]
        if kind in (tuple, frozenset):
            parts = tuple(value)
        elif kind in (staticmethod, classmethod):
            parts = (value.__func__,)
        elif kind is property:
            parts = (value.fget, value.fset, value.fdel)
        elif kind is functools.partial and not vars(value):
            self.bindings = None
            parts = (value.func, value.args, *value.keywords, *value.keywords.values())
        elif kind is MethodType and isinstance(value.__self__, type):
            parts = (value.__self__, value.__func__)
        elif kind is _LRU_CACHE:
            self.bindings = None
            parts = (value.__wrapped__,)
        elif isinstance(value, Enum) or kind.__module__ == "dataclasses":  # the latter's sentinels, in each __init__
            parts = (kind,)
        elif (own := getattr(kind, "fingerprint_parts", None)) is not None:  # a remote function
            parts = own(value)
        else:
            raise _Unknown
        self.key.append(len(parts))
        for part in parts:
            self.add(part, depth)

    def _travels_by_name(self, value: Any) -> bool:
        module = getattr(value, "__module__", None)
        if module is None or module in self._by_value:
            return False
        found: Any = sys.modules.get(module)
        self._note(sys.modules, module)
        for part in value.__qualname__.split("."):
            self._note(getattr(found, "__dict__", {}), part)
            found = getattr(found, part, None)
        return found is value

    def _note(self, namespace: Mapping[str, Any], name: str) -> None:
        if self.bindings is not None:
            self.bindings.name(namespace, name)

    def _note_function(self, function: FunctionType) -> None:
        if not _is_bare(function):
            self.bindings = None
        elif self.bindings is not None:
            self.bindings.function(function)
            for cell in function.__closure__ or ():
                self.bindings.cell(cell)

    def _add_function(self, function: FunctionType, depth: int) -> None:
        self._note_function(function)
        self.add(function.__code__, depth)
        self.add(function.__defaults__, depth)
        for attributes in (function.__kwdefaults__ or {}, vars(function)):
            self.key.append(len(attributes))
            for name, value in attributes.items():
                self.key.append(name)
                self.add(value, depth)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != _REPR_GUARD:
                self.add(_content(cell), depth)
        module = function.__globals__.get("__name__")
        self._note(function.__globals__, "__name__")
        if module in self._by_value:
            self._add_globals(module, function, depth)
        elif getattr(sys.modules.get(module or ""), "__dict__", None) is not function.__globals__:
            self._add_globals(None, function, depth)

    def _add_globals(self, module: str | None, function: FunctionType, depth: int) -> None:
        """Add mentioned globals; under their tokens, because a cached pickle has tokens in it.

        When a global changes and changes back, the objects are the same as at first, but the worker has taken
        the value in between and would ignore the old token.
        """
        for name in global_names(function.__code__):
            self._note(function.__globals__, name)
            if name not in function.__globals__:
                self.key.append(name)
                continue
            value = function.__globals__[name]
            self.add(value, depth)
            if module is not None:
                self.key.append(self._exchange.ledger.token(module, name, value))

    def _add_class(self, cls: type, depth: int) -> None:
        identity = self._exchange.definitions.id_of(cls)
        for base in cls.__bases__:
            self.add(base, depth)
        for name, value in list(vars(cls).items()):
            self.key.append(name)
            if _is_bookkeeping(name) and not isinstance(value, FunctionType):
                self.key.append(id(value))
                self.parts.append(value)
            elif not hasattr(type(value), "__objclass__") and not isinstance(value, cls):
                self.add(value, depth)
                self.key.append(self._exchange.ledger.token(identity, name, value))


def _is_bookkeeping(name: str) -> bool:
    """Tell names that the interpreter or a metaclass sets: ``__module__``, ``_member_map_``, ``_abc_impl``."""
    return (name.startswith("_") and name.endswith("_")) or name == "_abc_impl"


def _is_bare(function: FunctionType) -> bool:
    """Tell whether it has neither attributes nor keyword-only defaults, which are dicts and change in place."""
    return not function.__dict__ and function.__kwdefaults__ is None


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None
