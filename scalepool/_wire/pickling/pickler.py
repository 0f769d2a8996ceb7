"""A cloudpickle.Pickler whose functions share one namespace per module in the process that reads them.

cloudpickle alone gives the functions of each pickle a globals dict of their own, so an ``initializer`` that sets a
global of ``__main__`` sets it where no task will look. Here the globals of a function are named, not copied: the
reader takes the dict of its own module of that name and stores only what is new to it (see ``ledger``).

Used of cloudpickle (3.0 to 3.1, private names marked): ``Pickler.reducer_override``, which calls
``Pickler._dynamic_function_reduce(function)``; ``_dynamic_class_reduce(cls)`` returning ``(make, arguments,
(attributes, slots), None, None, set_state)``, ``_module_reduce(module)``, and the functions ``_builtin_type`` and
``subimport`` that its reductions call. All else is left to it: how classes, enums, dataclass fields and rarer things
are taken apart.

Functions are taken apart by our own ``functions``, so that reading one does not load cloudpickle (15 ms and 3 MB in
each worker); only classes and rarer things need it there.
"""

from __future__ import annotations

import functools
import io
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from enum import Enum
from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, NewType

import cloudpickle
from cloudpickle.cloudpickle import _builtin_type, _dynamic_class_reduce, _module_reduce, subimport

from scalepool._base.qualified import lookup
from scalepool._wire.pickling import rebuild
from scalepool._wire.pickling.enums import enum_arguments, make_enum, member_states
from scalepool._wire.pickling.functions import FunctionReducer, reduce_cell, reduce_code

if TYPE_CHECKING:
    import pickle

    from scalepool._wire.pickling.exchange import Exchange

__all__ = ["Reducers", "ValuePickler", "dump_by_value", "dumps_by_value"]

Reducers = Mapping[type, Callable[[Any], Any]]
"""How objects of exactly these types are taken apart."""

_LRU_CACHE = type(functools.lru_cache(abs))
_DISPATCHER_OWN = frozenset({"register", "dispatch", "registry", "_clear_cache"})
_FUNCTION_SLOTS = ("__name__", "__qualname__", "__module__", "__doc__")


def _connection_reducers() -> Reducers:
    """Return how an end of a pipe travels as an argument or result: once, from a thread of its owner."""
    connection = sys.modules.get("multiprocessing.connection")
    return {} if connection is None else {connection.Connection: connection.reduce_connection}


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
        For types that are neither functions nor classes; ``None``: as is usual.
    arrays
        More of them, for types that nobody else has one for.
    """

    def __init__(
        self,
        file: Any,
        exchange: Exchange,
        reader: int | None = None,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        reducers: Reducers | None = None,
        arrays: Reducers | None = None,
    ) -> None:
        own = dict(_connection_reducers() if reducers is None else reducers)
        if own or arrays:
            # Before the base class: the C pickler looks for this attribute once, when it is initialized.
            self.__dict__["dispatch_table"] = ChainMap(own, cloudpickle.Pickler.dispatch_table, dict(arrays or {}))
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._exchange = exchange
        self._reader = reader
        self._functions = FunctionReducer(exchange)
        self._by_value = self._functions.by_value

    def reducer_override(self, obj: Any) -> Any:
        """Choose how functions, classes and a few wrappers are taken apart; the rest is plain pickle's."""
        kind = type(obj)
        if kind is FunctionType:
            return self._reduce_function(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind is CodeType:
            return reduce_code(obj)
        if kind is CellType:
            return reduce_cell(obj)
        if kind is ModuleType:
            reduced = _module_reduce(obj)
            return (rebuild.import_module, reduced[1]) if reduced[0] is subimport else reduced
        if kind is functools.cached_property:  # before Python 3.12 it has a lock
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}
        if kind is _LRU_CACHE and self._is_by_value(obj):
            return self._reduce_cache(obj)
        if kind is NewType and self._is_by_value(obj):
            return NewType, (obj.__name__, obj.__supertype__), {"__module__": obj.__module__}
        return NotImplemented

    # --- functions

    def _reduce_function(self, function: FunctionType) -> Any:
        if function.__globals__ is vars(functools):
            if hasattr(function, "registry") and self._is_by_value(function):
                return self._reduce_dispatcher(function)
            if function.__qualname__ == "singledispatch.<locals>.dispatch":  # singledispatchmethod keeps it
                return getattr, (_dispatcher_of(function), "dispatch")
        reduced = super().reducer_override(function)
        if reduced is NotImplemented and function.__module__ in self._by_value:
            return self._dynamic_function_reduce(function)
        return reduced

    def _dynamic_function_reduce(self, function: FunctionType) -> Any:
        reduced = self._functions.reduce(function)
        # Globals of an exec have no name under which others could meet them: such a function gets a dict of its own.
        return super()._dynamic_function_reduce(function) if reduced is None else reduced

    # --- classes

    def _reduce_class(self, cls: type) -> Any:
        definitions = self._exchange.definitions
        if self._reader is not None and definitions.origin_of(cls) == self._reader:
            return rebuild.recall, (definitions.id_of(cls), cls.__module__, cls.__qualname__)
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented and cls.__module__ in self._by_value:
            reduced = _dynamic_class_reduce(cls)
        if reduced is not NotImplemented and reduced[0] is _builtin_type:
            return rebuild.hidden_type, reduced[1]
        if reduced is NotImplemented or len(reduced) != 6:
            return reduced  # by reference, or NoneType and the like
        maker, arguments, (attributes, slots), _, _, setter = reduced
        members = {}
        if issubclass(cls, Enum):
            maker, arguments = make_enum, (maker, *enum_arguments(cls, arguments))
            members = member_states(cls)
        elif cls.__dict__.get("__slots__", ()) and not hasattr(cls, "_fields"):
            arguments, attributes = _with_slots(cls, arguments, attributes)
        identity = definitions.id_of(cls)
        captured = self._functions.captured(identity, attributes)
        return (
            rebuild.rebuild_class,
            (identity, maker, arguments),
            (identity, setter, captured, slots, self._functions.main_token(cls), members),
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
        return lookup(module, getattr(wrapper, "__qualname__", wrapper.__name__)) is not wrapper

    def _reduce_dispatcher(self, dispatcher: Any) -> Any:
        attributes = {name: value for name, value in vars(dispatcher).items() if name not in _DISPATCHER_OWN}
        slots = {name: getattr(dispatcher, name) for name in _FUNCTION_SLOTS}
        state = (list(dispatcher.registry.items()), attributes, slots)
        return rebuild.rebuild_dispatcher, (), state, None, None, rebuild.fill_dispatcher

    def _reduce_cache(self, cache: Any) -> Any:
        parameters = cache.cache_parameters()
        attributes = {name: value for name, value in vars(cache).items() if name != "cache_parameters"}
        identity = self._exchange.definitions.id_of(cache)
        return (
            rebuild.rebuild_cache,
            (identity, parameters["maxsize"], parameters["typed"]),
            (cache.__wrapped__, attributes),
            None,
            None,
            rebuild.fill_cache,
        )


def _dispatcher_of(dispatch: FunctionType) -> Any:
    """Return a generic function with the implementations of the one that `dispatch` is a part of."""
    names = dispatch.__code__.co_freevars
    registry: Any = (dispatch.__closure__ or ())[names.index("registry")].cell_contents
    dispatcher = functools.singledispatch(registry[object])
    for cls, function in registry.items():
        dispatcher.register(cls, function)
    return dispatcher


def _with_slots(
    cls: Any, arguments: tuple[Any, ...], attributes: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Have a class with ``__slots__`` made with them: cloudpickle sets the attribute later, when it has no effect.

    Its instances would have a ``__dict__`` there, in which the reader of a result cannot put them.
    """
    slots = cls.__slots__ if isinstance(cls.__slots__, (str, dict)) else tuple(cls.__slots__)
    constructor, name, bases, options, *rest = arguments
    own = MemberDescriptorType, GetSetDescriptorType
    kept = {
        key: value
        for key, value in attributes.items()
        if key != "__slots__" and not (isinstance(value, own) and value.__objclass__ is cls)
    }
    return (constructor, name, bases, {**options, "__slots__": slots}, *rest), kept


def dump_by_value(
    obj: object,
    file: Any,
    exchange: Exchange,
    reader: int | None,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None,
    reducers: Reducers | None = None,
    arrays: Reducers | None = None,
) -> None:
    """Pickle with a `ValuePickler` into a file."""
    ValuePickler(file, exchange, reader, buffer_callback, reducers, arrays).dump(obj)


def dumps_by_value(
    obj: object,
    exchange: Exchange,
    reader: int | None,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None,
    reducers: Reducers | None = None,
) -> bytes:
    """Pickle with a `ValuePickler` and return the bytes."""
    with io.BytesIO() as file:
        dump_by_value(obj, file, exchange, reader, buffer_callback, reducers)
        return file.getvalue()
