"""How functions travel by value: taken apart here, put together again by ``rebuild``.

The globals of a function are named, not copied: the reader takes the dict of its own module of that name and stores
only what is new to it (see ``ledger``).

`dumps_function` does it without cloudpickle, whose import is a tenth of the time to a program's first result. It takes
functions that use plain values, modules, importable classes and other such functions; where it meets anything else it
leaves the whole to ``pickler``, which takes functions apart in the same way.
"""

from __future__ import annotations

import dis
import functools
import io
import pickle
import sys
from _thread import RLock, _local, allocate_lock
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.qualified import lookup
from scalepool._wire.pickling import rebuild
from scalepool._wire.pickling.culprit import global_names
from scalepool._wire.pickling.importable import by_value_modules
from scalepool._wire.pickling.namespaces import MAIN, Captured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from scalepool._wire.pickling.exchange import Exchange
    from scalepool._wire.pickling.ledger import Scope, Token

__all__ = ["FunctionReducer", "dumps_function", "reduce_cell", "reduce_code"]

_OF_MODULE: Final = ("__package__", "__name__", "__path__", "__file__")
"""What relative imports inside of a function need."""
_SLOTS: Final = (
    "__name__",
    "__qualname__",
    "__annotations__",
    "__kwdefaults__",
    "__defaults__",
    "__module__",
    "__doc__",
)
_GLOBAL_OPERATIONS: Final = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
_CODE: Final = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize", "co_flags", "co_code",
    "co_consts", "co_names", "co_varnames", "co_filename", "co_name",
    *(["co_qualname"] if sys.version_info >= (3, 11) else []),
    "co_firstlineno", "co_linetable",
    *(["co_exceptiontable"] if sys.version_info >= (3, 11) else []),
    "co_freevars", "co_cellvars",
)  # fmt: skip
"""Attributes of a code object in the order of its type's arguments."""
# cloudpickle rebuilds ABC registrations as a list made for each pickle; registering twice does nothing.
_ALWAYS_SET: Final = frozenset({"_abc_impl"})
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Whose copies are as good as the original; a lock or a sentinel is not, and stays what the reader's import made."""
_AS_EVER: Final = frozenset({BuiltinFunctionType, functools.partial})
"""Which no pickler of ours takes apart in its own way, beside this package's own classes."""


class _Fresh:
    """Pickles as a call without arguments."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return self._make, ()


def _itself(value: object) -> object:
    return value


# As globals and attributes of classes: each process has one of its own, as if it had run the module itself.
_LOCKS: Final[dict[type, Callable[[Any], object]]] = {
    type(allocate_lock()): lambda _: _Fresh(allocate_lock),
    type(RLock()): lambda _: _Fresh(RLock),
    _local: lambda _: _Fresh(_local),
}


class _NamespaceRef:
    """Pickles as a call that returns the reader's namespace; one per pickle, so that it is memoized."""

    __slots__ = ("_attributes", "_module")

    def __init__(self, module: str, attributes: Mapping[str, Any] | None) -> None:
        self._module = module
        self._attributes = attributes

    def __reduce__(self) -> tuple[Any, ...]:
        if self._attributes is None:
            return rebuild.imported_namespace, (self._module,)
        return rebuild.namespace_dict, (self._module, self._attributes)


class FunctionReducer:
    """Takes apart the functions of one pickle that the reader cannot import.

    Parameters
    ----------
    exchange
        This process's memory of what it sent.
    """

    __slots__ = ("_exchange", "_main", "_namespaces", "by_value")

    def __init__(self, exchange: Exchange) -> None:
        self.by_value = by_value_modules().names()
        self._exchange = exchange
        self._namespaces: dict[str, _NamespaceRef] = {}
        self._main = vars(sys.modules[MAIN])

    def reduce(self, function: FunctionType) -> tuple[Any, ...] | None:
        """Return how to rebuild `function`; ``None`` for globals without a name under which others could meet them."""
        module = _module_of(function.__globals__)
        if module is None:
            return None
        used = {name: function.__globals__[name] for name in used_globals(function) if name in function.__globals__}
        captured = self.captured(module, used) if module in self.by_value else self._rebound(module, used)
        cells = function.__closure__
        bare = None if cells is None else tuple(CellType() for _ in cells)  # filled later: it may be in its own closure
        slots = {name: getattr(function, name) for name in _SLOTS}
        needed = _submodules(function.__code__, [*used.values(), *map(rebuild.content_of, cells or ())])
        identity = self._exchange.definitions.id_of(function)
        state = (dict(function.__dict__), slots, cells, needed, module, captured, self.main_token(function))
        parts = (identity, function.__code__, self._namespace(module, function.__globals__), bare)
        return rebuild.rebuild_function, parts, state, None, None, rebuild.restore_function

    def _namespace(self, module: str, namespace: Mapping[str, Any]) -> _NamespaceRef:
        reference = self._namespaces.get(module)
        if reference is None:
            by_value = module in self.by_value
            own = {name: namespace[name] for name in _OF_MODULE if name in namespace} if by_value else None
            reference = self._namespaces[module] = _NamespaceRef(module, own)
        return reference

    def captured(self, scope: Scope, values: Mapping[str, Any]) -> Captured:
        """Return values with the tokens that tell the reader which of them are new."""
        token = self._exchange.ledger.token
        return {
            name: (None if name in _ALWAYS_SET else token(scope, name, value), _LOCKS.get(type(value), _itself)(value))
            for name, value in values.items()
        }

    def _rebound(self, module: str, values: Mapping[str, Any]) -> Captured:
        """Plain values among the globals of a module that the reader imports: it takes those that we bind anew."""
        token = self._exchange.ledger.rebinding
        return {name: (token(module, name, value), value) for name, value in values.items() if type(value) in _PLAIN}

    def main_token(self, definition: Any) -> Token | None:
        """Return a token when this is what its name in ``__main__`` stands for, so that it is found there too."""
        name = definition.__name__
        if definition.__module__ != MAIN or self._main.get(name) is not definition:
            return None
        return self._exchange.ledger.token(MAIN, name, definition)


class _Beyond(Exception):  # no error: a way out
    """Something is in the function that takes more than `_FunctionPickler`."""


class _FunctionPickler(pickle.Pickler):
    """Pickles functions of the plainest kind."""

    def __init__(self, file: Any, exchange: Exchange) -> None:
        super().__init__(file, 5)
        self._functions = FunctionReducer(exchange)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            reduced = NotImplemented if self._is_found(obj) else self._functions.reduce(obj)
        elif kind is CodeType:
            reduced = reduce_code(obj)
        elif kind is CellType:
            reduced = reduce_cell(obj)
        elif kind is ModuleType:
            name = obj.__name__
            importable = sys.modules.get(name) is obj and name not in self._functions.by_value
            reduced = (rebuild.import_module, (name,)) if importable else None
        elif issubclass(kind, type):
            reduced = NotImplemented if self._is_found(obj) else None
        else:
            as_ever = kind in _AS_EVER or kind.__module__.startswith("scalepool.")
            reduced = NotImplemented if as_ever else None
        if reduced is None:
            raise _Beyond
        return reduced

    def _is_found(self, definition: Any) -> bool:
        """Tell whether the reader finds it by name."""
        module = definition.__module__
        if module is None or "registry" in vars(definition):  # functools.singledispatch
            raise _Beyond
        if module in self._functions.by_value:
            return False
        return lookup(module, definition.__qualname__) is definition


def dumps_function(obj: object, exchange: Exchange) -> bytes | None:
    """Pickle a function, or an object of ours around one; ``None`` when that takes cloudpickle, or fails."""
    with io.BytesIO() as file:
        try:
            _FunctionPickler(file, exchange).dump(obj)
        except Exception:  # noqa: BLE001 - whatever it was: the other pickler either succeeds or says what is wrong
            return None
        return file.getvalue()


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Return how to rebuild a code object."""
    return rebuild.make_code, tuple(getattr(code, name) for name in _CODE)


def reduce_cell(cell: CellType) -> tuple[Any, ...]:
    """Return how to rebuild a variable of a closure."""
    try:
        return rebuild.make_cell, (cell.cell_contents,)
    except ValueError:
        return rebuild.make_cell, ()  # the variable is not bound


def used_globals(function: FunctionType) -> Iterable[str]:
    """Return the names that a function, and functions inside it, take from its globals."""
    names: dict[str, None] = {}
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        for instruction in dis.get_instructions(code):
            if instruction.opname in _GLOBAL_OPERATIONS:
                names[instruction.argval] = None
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names


def _module_of(namespace: Mapping[str, Any]) -> str | None:
    """Return the module whose globals these are."""
    name = namespace.get("__name__")
    if name == MAIN:
        return MAIN
    if not isinstance(name, str) or getattr(sys.modules.get(name), "__dict__", None) is not namespace:
        return None
    return name


def _submodules(code: CodeType, values: Iterable[object]) -> list[ModuleType]:
    """Return loaded submodules of the packages among `values` whose names the code mentions.

    ``xml.etree`` works where somebody has imported it: the function alone would import ``xml``.
    """
    mentioned = frozenset(global_names(code))
    prefixes = [f"{package.__name__}." for package in values if isinstance(package, ModuleType)]
    found: list[object] = [
        module
        for prefix in prefixes
        for name, module in sys.modules.copy().items()
        if name.startswith(prefix) and mentioned.issuperset(name[len(prefix) :].split("."))
    ]
    return [module for module in found if isinstance(module, ModuleType)]  # anything may stand in sys.modules
