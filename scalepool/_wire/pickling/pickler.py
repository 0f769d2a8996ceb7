"""A cloudpickle.Pickler whose functions share one namespace per module in the process that reads them.

cloudpickle alone gives the functions of each pickle a globals dict of their own, so an ``initializer`` that sets a
global of ``__main__`` sets it where no task will look. Here the globals of a function are named, not copied: the
reader takes the dict of its own module of that name and stores only what is new to it (see ``ledger``).

Used of cloudpickle (3.0 to 3.1, private names marked): ``Pickler.reducer_override``,
``Pickler._dynamic_function_reduce(function)`` returning ``(make, (code, globals, name, defaults, closure),
(attributes, slots), None, None, set_state)`` with ``__globals__``, ``__closure__`` and ``_cloudpickle_submodules``
among the slots, and ``_dynamic_class_reduce(cls)`` of the same shape. All else is left to it: which globals a code
object mentions, how classes, enums, dataclass fields and code objects are taken apart.
"""

from __future__ import annotations

import functools
import io
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, NewType

import cloudpickle
from cloudpickle.cloudpickle import _dynamic_class_reduce

from scalepool._wire.pickling import rebuild
from scalepool._wire.pickling.importable import by_value_modules
from scalepool._wire.pickling.namespaces import MAIN, Captured

if TYPE_CHECKING:
    import pickle

    from scalepool._wire.pickling.exchange import Exchange
    from scalepool._wire.pickling.ledger import Scope, Token

__all__ = ["Reducers", "ValuePickler", "dumps_by_value"]

Reducers = Mapping[type, Callable[[Any], Any]]
"""How objects of exactly these types are taken apart."""

_LRU_CACHE = type(functools.lru_cache(abs))
_DISPATCHER_OWN = frozenset({"register", "dispatch", "registry", "_clear_cache"})
_FUNCTION_SLOTS = ("__name__", "__qualname__", "__module__", "__doc__")
# cloudpickle rebuilds ABC registrations as a list made for each pickle; registering twice does nothing.
_ALWAYS_SET = frozenset({"_abc_impl"})


_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Whose copies are as good as the original; a lock or a sentinel is not, and stays what the reader's import made."""


def _connection_reducers() -> Reducers:
    """Return how an end of a pipe travels as an argument or result: once, from a thread of its owner."""
    connection = sys.modules.get("multiprocessing.connection")
    return {} if connection is None else {connection.Connection: connection.reduce_connection}


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


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles functions and classes by value where the reader cannot import them.

    Parameters
    ----------
    file
        Written to.
    exchange
        This process's memory of what it sent.
    reader
        Sender number of the process that will read; classes that came from there go as a mere id.
    buffer_callback
        As for `pickle.Pickler`.
    reducers
        For types that are neither functions nor classes.
    """

    def __init__(
        self,
        file: Any,
        exchange: Exchange,
        reader: int | None = None,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        reducers: Reducers | None = None,
    ) -> None:
        if reducers is None:
            reducers = _connection_reducers()
        if reducers:
            # Before the base class: the C pickler looks for this attribute once, when it is initialized.
            self.__dict__["dispatch_table"] = ChainMap(dict(reducers), cloudpickle.Pickler.dispatch_table)
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._exchange = exchange
        self._reader = reader
        self._by_value = by_value_modules().names()
        self._namespaces: dict[str, _NamespaceRef] = {}
        self._main = vars(sys.modules[MAIN])

    def reducer_override(self, obj: Any) -> Any:
        """Choose how functions, classes and a few wrappers are taken apart; the rest is plain pickle's."""
        kind = type(obj)
        if kind is FunctionType:
            return self._reduce_function(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind is _LRU_CACHE and self._is_by_value(obj):
            return self._reduce_cache(obj)
        if kind is NewType and self._is_by_value(obj):
            return NewType, (obj.__name__, obj.__supertype__), {"__module__": obj.__module__}
        return NotImplemented

    # --- functions

    def _reduce_function(self, function: FunctionType) -> Any:
        if function.__globals__ is vars(functools) and hasattr(function, "registry") and self._is_by_value(function):
            return self._reduce_dispatcher(function)
        reduced = super().reducer_override(function)
        if reduced is NotImplemented and function.__module__ in self._by_value:
            return self._dynamic_function_reduce(function)
        return reduced

    def _dynamic_function_reduce(self, function: FunctionType) -> Any:
        reduced = super()._dynamic_function_reduce(function)
        module = self._shared_namespace(function.__globals__)
        if module is None:
            return reduced  # globals of an exec: they have no name under which others could meet them
        code, attributes_of_module, _, _, closure = reduced[1]
        attributes, slots = reduced[2]
        globals_ = slots.pop("__globals__")
        by_value = module in self._by_value
        reference = self._namespaces.get(module)
        if reference is None:
            reference = _NamespaceRef(module, dict(attributes_of_module) if by_value else None)
            self._namespaces[module] = reference
        captured = self._captured(module, globals_) if by_value else self._rebound(module, globals_)
        identity = self._exchange.definitions.id_of(function)
        return (
            rebuild.rebuild_function,
            (identity, code, reference, closure),
            (attributes, slots, module, captured, self._main_token(function)),
            None,
            None,
            rebuild.restore_function,
        )

    def _shared_namespace(self, namespace: Mapping[str, Any]) -> str | None:
        """Return the module whose globals these are."""
        name = namespace.get("__name__")
        if name == MAIN:
            return MAIN
        if not isinstance(name, str) or getattr(sys.modules.get(name), "__dict__", None) is not namespace:
            return None
        return name

    def _captured(self, scope: Scope, values: Mapping[str, Any]) -> Captured:
        token = self._exchange.ledger.token
        return {
            name: (None if name in _ALWAYS_SET else token(scope, name, value), value) for name, value in values.items()
        }

    def _rebound(self, module: str, values: Mapping[str, Any]) -> Captured:
        """Plain values among the globals of a module that the reader imports: it takes those that we bind anew."""
        token = self._exchange.ledger.rebinding
        return {name: (token(module, name, value), value) for name, value in values.items() if type(value) in _PLAIN}

    def _main_token(self, definition: Any) -> Token | None:
        """Return a token when this is what its name in ``__main__`` stands for, so that it is found there too."""
        name = definition.__name__
        if definition.__module__ != MAIN or self._main.get(name) is not definition:
            return None
        return self._exchange.ledger.token(MAIN, name, definition)

    # --- classes

    def _reduce_class(self, cls: type) -> Any:
        definitions = self._exchange.definitions
        if self._reader is not None and definitions.origin_of(cls) == self._reader:
            return rebuild.recall, (definitions.id_of(cls), cls.__module__, cls.__qualname__)
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented and cls.__module__ in self._by_value:
            reduced = _dynamic_class_reduce(cls)
        if reduced is NotImplemented or len(reduced) != 6:
            return reduced  # by reference, or one of those that the interpreter hides: NoneType and the like
        maker, arguments, (attributes, slots), _, _, setter = reduced
        identity = definitions.id_of(cls)
        captured = self._captured(identity, attributes)
        return (
            rebuild.rebuild_class,
            (identity, maker, arguments),
            (identity, setter, captured, slots, self._main_token(cls)),
            None,
            None,
            rebuild.restore_class,
        )

    # --- wrappers of functools

    def _is_by_value(self, wrapper: Any) -> bool:
        """Tell whether the reader could not find this under its module and qualified name."""
        module = getattr(wrapper, "__module__", None)
        if module is None or module in self._by_value:
            return True
        found: Any = sys.modules.get(module)
        for part in getattr(wrapper, "__qualname__", wrapper.__name__).split("."):
            found = getattr(found, part, None)
        return found is not wrapper

    def _reduce_dispatcher(self, dispatcher: Any) -> Any:
        attributes = {name: value for name, value in vars(dispatcher).items() if name not in _DISPATCHER_OWN}
        slots = {name: getattr(dispatcher, name) for name in _FUNCTION_SLOTS}
        state = (list(dispatcher.registry.items()), attributes, slots)
        return rebuild.rebuild_dispatcher, (), state, None, None, rebuild.fill_dispatcher

    def _reduce_cache(self, cache: Any) -> Any:
        parameters = cache.cache_parameters()
        attributes = {name: value for name, value in vars(cache).items() if name != "cache_parameters"}
        return (
            rebuild.rebuild_cache,
            (parameters["maxsize"], parameters["typed"]),
            (cache.__wrapped__, attributes),
            None,
            None,
            rebuild.fill_cache,
        )


def dumps_by_value(
    obj: object,
    exchange: Exchange,
    reader: int | None,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None,
    reducers: Reducers | None = None,
) -> bytes:
    """Pickle with a `ValuePickler` and return the bytes."""
    with io.BytesIO() as file:
        ValuePickler(file, exchange, reader, buffer_callback, reducers).dump(obj)
        return file.getvalue()
