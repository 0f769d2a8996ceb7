"""Where in a value the thing sits that does not pickle.

Looks only after pickling has failed. From the value downwards it takes the parts that pickle would take (items,
attributes, closure variables, captured globals), tries each alone, and follows the first that fails. The search is
bounded in depth and in number of tries, and answers with what it has when a bound is reached or when foreign code
that it has to call (``__getstate__``, ``__reduce__``, ``repr``) misbehaves.
"""

from __future__ import annotations

import functools
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from scalepool._base.tuples import NamedTuple
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Culprit", "Labels", "ReducerError", "find_culprit"]

Labels = str | tuple[str, ...]
_Part = tuple[str, Any]

MAX_DEPTH = 30
# Each try pickles one part: with large parts this bounds the time to a small multiple of one pickling.
MAX_TRIES = 300

_HARMLESS = (type(None), bool, int, float, complex, str, bytes, bytearray)

_REMEDY = (
    "open or create it inside the task, pass what it is made from instead, "
    "or leave it out of the pickled state with __getstate__"
)

_REMEDY_FOR_SHARED = "pass it to the workers once, by initializer and initargs, or use what a Manager makes"
# Their users know an object of these modules as one; which of its parts fails means nothing to them.
_TAKEN_WHOLE = frozenset(f"multiprocessing.{name}" for name in ("synchronize", "queues", "sharedctypes"))


class ReducerError(Exception):
    """Raised by a reducer that knows the remedy."""

    def explain(self, kind: str) -> str:
        """Return the reason and the remedy for a culprit whose class is ``kind``."""
        raise NotImplementedError


class Culprit(NamedTuple):
    """What does not pickle.

    Attributes
    ----------
    path
        Where it sits, e.g. ``args[2].model._lock``; empty when it is the value itself and has no label.
    kind
        Its type, e.g. ``_thread.lock``.
    """

    path: str
    kind: str

    def explain(self, error: BaseException) -> str:
        """Return the sentence for the user."""
        what = f"{self.path}: {self.kind}" if self.path else f"an object of type {self.kind}"
        if isinstance(error, RecursionError) or isinstance(error.__context__, RecursionError):
            return f"cannot send {what}: it is nested too deeply for pickle; flatten it, e.g. into a list of records"
        if isinstance(error, SessionError):
            return f"cannot send {what}: {_text(error)}"
        if isinstance(error, ReducerError):
            return f"cannot send {what}: {error.explain(self.kind)}"
        remedy = _REMEDY_FOR_SHARED if self.kind.rpartition(".")[0] in _TAKEN_WHOLE else _REMEDY
        return f"cannot send {what} ({type(error).__name__}: {_text(error)}); {remedy}"


def find_culprit(root: object, try_pickle: Callable[[object], object], label: Labels = "") -> Culprit:
    """Return the innermost part of ``root`` that fails to pickle. Never raises.

    Parameters
    ----------
    root
        A value that failed.
    try_pickle
        Raises when its argument does not pickle.
    label
        How the path begins; a tuple names the items of a root that is a tuple.
    """
    path = label if isinstance(label, str) else ""
    current = root
    try:
        search = _Search(try_pickle)
        for depth in range(MAX_DEPTH):
            named = label if depth == 0 and not isinstance(label, str) else ()
            found = search.first_failing(current, named)
            if found is None:
                break
            path, current = path + found[0], found[1]
    except Exception:  # noqa: BLE001 - this explains an error that is already on its way; it must not replace it
        path = path or "..."
    return Culprit(path.removeprefix("."), _kind_of(current))


class _Search:
    """Tries parts one by one; never the same object twice, never more than `MAX_TRIES`."""

    __slots__ = ("_seen", "_tries_left", "_try_pickle")

    def __init__(self, try_pickle: Callable[[object], object]) -> None:
        self._try_pickle = try_pickle
        self._tries_left = MAX_TRIES
        self._seen: dict[int, object] = {}

    def first_failing(self, whole: object, names: tuple[str, ...]) -> _Part | None:
        """Return the first part of ``whole`` that does not pickle alone."""
        self._seen[id(whole)] = whole
        for index, (label, part) in enumerate(_parts_of(whole)):
            if isinstance(part, _HARMLESS) or id(part) in self._seen:
                continue
            if not self._tries_left:
                return None
            self._tries_left -= 1
            self._seen[id(part)] = part
            if self._fails(part):
                return (names[index] if index < len(names) else label), part
        return None

    def _fails(self, part: object) -> bool:
        try:
            self._try_pickle(part)
        except Exception:  # noqa: BLE001 - that is the question
            return True
        return False


def _parts_of(whole: Any) -> Iterator[_Part]:
    kind = type(whole)
    if kind.__module__ in _TAKEN_WHOLE:
        return
    for known, take in _TAKE_APART.items():
        if issubclass(kind, known):
            yield from take(whole)
            break
    if kind not in _TAKE_APART:
        yield from _state(whole)


def _items(whole: Any) -> Iterator[_Part]:
    for index, item in enumerate(whole):
        yield f"[{index}]", item


def _members(whole: Any) -> Iterator[_Part]:
    for item in whole:
        yield "{...}", item


def _entries(whole: Mapping[Any, Any]) -> Iterator[_Part]:
    for key, value in list(whole.items()):
        yield f"[{_text(key, repr)}]", value
        yield f".keys()[{_text(key, repr)}]", key


def _function(whole: FunctionType) -> Iterator[_Part]:
    name = f"<{whole.__name__.strip('<>')}>"
    for variable, cell in zip(whole.__code__.co_freevars, whole.__closure__ or (), strict=False):
        yield from ((f".{name} closure {variable}", value) for value in _content(cell))
    for index, value in enumerate(whole.__defaults__ or ()):
        yield f".{name} default {index}", value
    for variable, value in (whole.__kwdefaults__ or {}).items():
        yield f".{name} default {variable}", value
    for variable in global_names(whole.__code__):
        if variable in whole.__globals__:
            yield f".{name} global {variable}", whole.__globals__[variable]
    for variable, value in vars(whole).items():
        yield f".{name}.{variable}", value


def _method(whole: MethodType) -> Iterator[_Part]:
    yield ".__self__", whole.__self__
    yield ".__func__", whole.__func__


def _partial(whole: functools.partial[Any]) -> Iterator[_Part]:
    yield ".func", whole.func
    for index, value in enumerate(whole.args):
        yield f".args[{index}]", value
    for name, value in whole.keywords.items():
        yield f".keywords[{name!r}]", value


def _class(whole: type) -> Iterator[_Part]:
    for name, value in list(vars(whole).items()):
        if not name.startswith("__") or isinstance(value, FunctionType):
            yield f".{name}", getattr(value, "__func__", value)


def _nothing(_whole: object) -> Iterator[_Part]:
    return iter(())


def _state(whole: Any) -> Iterator[_Part]:
    """Yield what pickle would take: the state that the class gives, else attributes and slots."""
    kind: Any = type(whole)
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        reduced = whole.__reduce_ex__(5)
        for index, part in enumerate(reduced[1:] if isinstance(reduced, tuple) else ()):
            yield from _attributes(part) if index == 1 else _items(part if isinstance(part, tuple) else ())
        return
    get_state = getattr(whole, "__getstate__", None)
    yield from _attributes(get_state() if get_state is not None else getattr(whole, "__dict__", None))
    for cls in type(whole).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(whole, name) and not name.startswith("__"):
                yield f".{name}", getattr(whole, name)


def _attributes(state: object) -> Iterator[_Part]:
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        yield from _attributes(state[0])
        yield from _attributes(state[1])
    elif isinstance(state, dict):
        yield from ((f".{name}", value) for name, value in list(state.items()))
    elif state is not None:
        yield ".__getstate__()", state


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


_TAKE_APART: dict[type, Callable[[Any], Iterator[_Part]]] = {
    dict: _entries,
    list: _items,
    tuple: _items,
    set: _members,
    frozenset: _members,
    FunctionType: _function,
    MethodType: _method,
    functools.partial: _partial,
    ModuleType: _nothing,
    BuiltinFunctionType: _nothing,
    type: _class,
}


def global_names(code: CodeType) -> tuple[str, ...]:
    """Return the names that a code object and those inside it may take from their globals (attributes too)."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(dict.fromkeys(global_names(constant)))
    return tuple(names)


def _kind_of(value: object) -> str:
    kind = type(value)
    name = getattr(kind, "__qualname__", "object")
    module = getattr(kind, "__module__", "builtins")
    return name if module == "builtins" else f"{module}.{name}"


def _text(value: object, text: Callable[[object], str] = str) -> str:
    try:
        shown = text(value)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error that it is part of
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= 200 else shown[:200] + "..."
