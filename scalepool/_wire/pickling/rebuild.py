"""The functions that a pickle by value calls when it is read: counterpart of ``pickler``.

What was defined in this very process is recognised by its id and returned as it is: a task that gives back a function
or an instance of its caller's class gives back *that* function and *that* class, and no copy of them from a worker
can change the original. What came from elsewhere is rebuilt; classes once (so that ``isinstance`` holds between
tasks), functions each time (their defaults and closures may have changed meanwhile).
"""

from __future__ import annotations

import builtins
import functools
import importlib
import pickle
import sys
import types
from types import CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from scalepool._base.qualified import lookup
from scalepool._wire.pickling.exchange import current
from scalepool._wire.pickling.namespaces import MAIN, Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalepool._wire.pickling.ledger import Token

__all__ = [
    "content_of",
    "fill_cache",
    "fill_dispatcher",
    "hidden_type",
    "import_module",
    "imported_namespace",
    "make_cell",
    "make_code",
    "namespace_dict",
    "rebuild_cache",
    "rebuild_class",
    "rebuild_dispatcher",
    "rebuild_function",
    "recall",
    "restore_class",
    "restore_function",
]


# --- namespaces


def namespace_dict(module: str, attributes: Mapping[str, Any]) -> Namespace:
    """Return the globals for functions of ``__main__`` and of modules that cannot be imported here."""
    return current().namespaces.private(module, attributes)


def imported_namespace(module: str) -> Namespace:
    """Return the globals for functions by value whose module can be imported."""
    return current().namespaces.imported(module)


# --- functions


def rebuild_function(
    identity: Token, code: CodeType, namespace: Namespace, closure: tuple[CellType, ...] | None
) -> FunctionType:
    """Return the caller's own function when this is where it came from, else a bare new one."""
    definitions = current().definitions
    known = definitions.get(identity)
    if isinstance(known, FunctionType) and definitions.is_native(known):
        return known
    namespace.setdefault("__builtins__", builtins)
    function = FunctionType(code, namespace, code.co_name, None, closure)
    definitions.receive(identity, function)
    return function


def restore_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    """Give a bare function its state: attributes, slots, the module it belongs to, captured globals, its own name."""
    exchange = current()
    if exchange.definitions.is_native(function):
        return
    attributes, slots, cells, _submodules, module, captured, bind = state  # submodules: listed only to be imported
    function.__dict__.update(attributes)
    for own, sent in zip(function.__closure__ or (), cells or (), strict=True):
        _copy_cell(own, sent)
    for name, value in slots.items():
        setattr(function, name, value)
    if captured:
        exchange.namespaces.store(module, function.__globals__, captured)
    if bind is not None:
        exchange.namespaces.store(MAIN, exchange.namespaces.private(MAIN, {}), {function.__name__: (bind, function)})


def make_cell(*contents: object) -> CellType:
    """Return a variable of a closure, bound to one value or not bound."""
    return CellType(*contents)


def make_code(*parts: Any) -> CodeType:
    """Return a code object."""
    return CodeType(*parts)


def content_of(cell: CellType) -> object:
    """Return what a variable of a closure holds, ``None`` while it is not bound."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def hidden_type(name: str) -> type:
    """Return a type of the interpreter that has no name in ``builtins``, e.g. ``CodeType``."""
    found: type = getattr(types, name)
    return found


def import_module(name: str) -> ModuleType:
    """Return a module that a function uses."""
    importlib.import_module(name)
    return sys.modules[name]  # a module may put something else in its own place


def _copy_cell(own: CellType, sent: CellType) -> None:
    try:
        own.cell_contents = sent.cell_contents
    except ValueError:
        return  # the variable was not bound on the sending side either


# --- classes


def rebuild_class(identity: Token, maker: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Return the class known under this id, else a bare new one."""
    definitions = current().definitions
    known = definitions.get(identity)
    if isinstance(known, type):
        return known
    cls = maker(*arguments)
    definitions.receive(identity, cls)
    return cls


def restore_class(cls: type, state: tuple[Any, ...]) -> None:
    """Set those attributes of a class that are new here."""
    exchange = current()
    if exchange.definitions.is_native(cls):
        return
    identity, setter, captured, slots, bind, members = state
    news = exchange.namespaces.class_news(cls, identity, captured)
    if news:
        setter(cls, (news, slots))
    if members:
        from scalepool._wire.pickling.enums import set_members

        set_members(cls, members)
    if bind is not None:
        exchange.namespaces.store(MAIN, exchange.namespaces.private(MAIN, {}), {cls.__name__: (bind, cls)})


def recall(identity: Token, module: str, qualname: str) -> object:
    """Return a class that this process sent out, by its id.

    Raises
    ------
    pickle.UnpicklingError
        When the class is gone and no other has taken its name.
    """
    known = current().definitions.get(identity)
    if known is not None:
        return known
    # It was redefined and collected meanwhile: its successor is what pickle by reference would have found.
    found = lookup(module, qualname)
    if found is None:
        raise pickle.UnpicklingError(f"class {module}.{qualname} no longer exists in this process")
    return cast("object", found)


# --- wrappers of functools that pickle by name or not at all


def _no_base(*_args: object) -> None:
    raise NotImplementedError("the generic function has not been filled")


def rebuild_dispatcher() -> Any:
    """Return an empty ``functools.singledispatch`` function."""
    return functools.singledispatch(_no_base)


def fill_dispatcher(dispatcher: Any, state: tuple[Any, ...]) -> None:
    """Register the implementations and set name, module and attributes."""
    implementations, attributes, slots = state
    for cls, function in implementations:
        dispatcher.register(cls, function)
    dispatcher.__dict__.update(attributes)
    for name, value in slots.items():
        setattr(dispatcher, name, value)


class _Trampoline:
    """Stands in for the function of an ``lru_cache`` until it is there: the two usually refer to each other."""

    __slots__ = ("target",)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.target(*args, **kwargs)

    target: Callable[..., Any]


def rebuild_cache(identity: Token, maxsize: int | None, typed: bool) -> Any:
    """Return the ``functools.lru_cache`` known under this id, with what it has cached, else an empty one."""
    definitions = current().definitions
    known = definitions.get(identity)
    if known is None:
        known = functools.lru_cache(maxsize, typed)(_Trampoline())
        definitions.receive(identity, known)
    return known


def fill_cache(cache: Any, state: tuple[Any, ...]) -> None:
    """Give the cache its function and attributes; the entries stay where they were computed."""
    if current().definitions.is_native(cache):
        return
    function, attributes = state
    cache.__wrapped__.target = function
    cache.__dict__.update(attributes)
