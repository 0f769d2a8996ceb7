"""How errors of tasks travel: as themselves whenever that is possible at all.

Pickle rebuilds an exception by calling its class with ``args``, which fails for many classes in the wild, quietly
changes others, and raises where nobody expects it. So the worker makes the round trip before it sends, and the record
holds, for the exception and for all it is chained to, the first of these that works:

1. the pickle, when reading it back gives the same class and the same text;
2. class, ``args`` and attributes, to be put together without calling ``__init__``; what does not pickle is replaced
   by its repr;
3. names and texts, to become a `RemoteError`.

The third is in every record, because reading may still fail in the other process.

An ExceptionGroup is taken apart, so that each member is treated by the same rules. The record itself is a pickle of
tuples, numbers, strings and bytes only.
"""

from __future__ import annotations

import pickle
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

from scalepool._base.tuples import NamedTuple
from scalepool._wire.payload import Payload, dumps, dumps_inline, loads
from scalepool.errors import ScalepoolError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "RemoteError",
    "ResultEncodingError",
    "decode_exception",
    "encode_exception",
    "encode_result",
    "encode_unread",
]

# Exceptions in one record: chains longer than this lose their far end.
MAX_CHAIN = 100
# Characters of one repr.
MAX_REPR = 10_000

_PICKLED, _REBUILT, _GROUP, _STAND_IN, _UNREAD = range(5)


class RemoteError(ScalepoolError):
    """Stands in for an exception whose own class cannot be rebuilt in this process.

    Attributes
    ----------
    class_name
        Module and name of the class.
    message
        ``str()`` of the exception.
    args_reprs
        The reprs of its ``args``.
    """

    def __init__(self, class_name: str, message: str, args_reprs: tuple[str, ...] = ()) -> None:
        super().__init__(class_name, message, args_reprs)
        self.class_name = class_name
        self.message = message
        self.args_reprs = args_reprs

    def __str__(self) -> str:
        return f"{self.class_name}: {self.message}" if self.message else self.class_name


class ResultEncodingError(ScalepoolError, pickle.PicklingError):
    """A task's result does not pickle. Holds texts only, so that it always travels.

    Attributes
    ----------
    exc_repr
        ``repr()`` of what pickling raised.
    value_repr
        ``repr()`` of the result.
    path, kind
        Where in the result the culprit sits, e.g. ``result[3].lock``, and its class; empty where that is not known.
    """

    def __init__(self, exc_repr: str, value_repr: str, path: str = "", kind: str = "") -> None:
        super().__init__(exc_repr, value_repr, path, kind)
        self.exc_repr = exc_repr
        self.value_repr = value_repr
        self.path = path
        self.kind = kind

    def __str__(self) -> str:
        return f"cannot send the result {self.value_repr}: {self.reason}"

    def of_item(self, index: int) -> ResultEncodingError:
        """Return the error for the result of a map, of which this was the item ``index``."""
        path = f"result[{index}]{self.path.removeprefix('result')}" if self.path else ""
        named = ResultEncodingError(self.exc_repr, self.value_repr, path, self.kind)
        named.__cause__ = self.__cause__
        return named

    @property
    def reason(self) -> str:
        """What pickling raised, and for what."""
        return f"{self.exc_repr} for {self.path}: {self.kind}" if self.path else self.exc_repr


class _Node(NamedTuple):
    """One exception of the record; links are indexes of other nodes, -1 for none."""

    kind: int
    data: bytes
    class_name: str
    message: str
    args_reprs: tuple[str, ...]
    members: tuple[int, ...]
    cause: int
    context: int
    suppress_context: bool


# --- in the worker


def encode_result(value: object, *, oob_threshold: int, reader: int | None = None, apart: bool = False) -> Payload:
    """Pickle a task's result, see `dumps`.

    Raises
    ------
    ResultEncodingError
        When it does not pickle.
    """
    try:
        return dumps(value, oob_threshold=oob_threshold, reader=reader, label="result", apart=apart)
    except Exception as error:
        path, kind = (error.path, error.kind) if isinstance(error, SerializationError) else ("", "")
        raise ResultEncodingError(_safe(repr, error.__cause__ or error), _safe(repr, value), path, kind) from error


def encode_exception(error: BaseException, tb_text: str, *, reader: int | None = None) -> bytes:
    """Return a record of an exception and all it is chained to. Never raises an `Exception`.

    Parameters
    ----------
    error
        What the task raised; any `BaseException`.
    tb_text
        Its formatted traceback (`format_traceback`).
    reader
        As for `dumps`.
    """
    order = _reachable(error)
    index = {id(exception): position for position, exception in enumerate(order)}

    def link(other: BaseException | None) -> int:
        return index.get(id(other), -1) if other is not None else -1

    nodes = []
    for exception in order:
        members = tuple(link(member) for member in _members(exception))
        kind, data = _encode_one(exception, members, reader)
        nodes.append(
            _Node(
                kind,
                data,
                _class_name(type(exception)),
                _safe(str, exception),
                tuple(_safe(repr, argument) for argument in exception.args),
                members if kind == _GROUP else (),
                link(exception.__cause__),
                link(exception.__context__),
                exception.__suppress_context__,
            )
        )
    return pickle.dumps((tb_text, [tuple(node) for node in nodes]), 5)


def encode_unread(data: bytes, class_name: str, message: str) -> bytes:
    """Return the record of an exception that is pickled already, and not to be loaded here."""
    return pickle.dumps(("", [tuple(_Node(_UNREAD, data, class_name, message, (), (), -1, -1, False))]), 5)


def _reachable(error: BaseException) -> list[BaseException]:
    order: list[BaseException] = []
    seen: set[int] = set()
    todo = [error]
    while todo and len(order) < MAX_CHAIN:
        current = todo.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            order.append(current)
            linked = (current.__cause__, current.__context__)
            todo += [*_members(current), *(other for other in linked if other is not None)]
    return order


def _members(error: BaseException) -> tuple[BaseException, ...]:
    if not hasattr(type(error), "derive"):  # BaseExceptionGroup: Python 3.11
        return ()
    members = getattr(error, "exceptions", ())
    return tuple(members) if isinstance(members, tuple) else ()


def _encode_one(error: BaseException, members: tuple[int, ...], reader: int | None) -> tuple[int, bytes]:
    if members:
        data = None if -1 in members else _encode_parts(error, (getattr(error, "message", ""),), reader)
        return (_STAND_IN, b"") if data is None else (_GROUP, data)
    data = _encode_whole(error, reader)
    if data is not None:
        return _PICKLED, data
    data = _encode_parts(error, error.args, reader)
    return (_STAND_IN, b"") if data is None else (_REBUILT, data)


def _encode_whole(error: BaseException, reader: int | None) -> bytes | None:
    try:
        data = dumps_inline(error, reader=reader)
        return data if _same(pickle.loads(data), error) else None
    except BaseException:  # noqa: BLE001 - user code that may even call sys.exit(); there is another way
        return None


def _same(read_back: object, error: BaseException) -> bool:
    return type(read_back) is type(error) and _safe(str, read_back) == _safe(str, error)


def _encode_parts(error: BaseException, arguments: tuple[object, ...], reader: int | None) -> bytes | None:
    """Return class, args and attributes, each picklable by itself; ``None`` when the class is not or nothing helps."""
    try:
        is_group = bool(_members(error))
        attributes = {name: _picklable(value, reader) for name, value in _attributes(error).items()}
        parts = (type(error), tuple(_picklable(argument, reader) for argument in arguments), attributes)
        data = dumps_inline(parts, reader=reader)
        cls, sent, fields = pickle.loads(data)
        _assemble(cls, (*sent, [ValueError()]) if is_group else sent, fields)
    except BaseException:  # noqa: BLE001 - see _encode_one
        return None
    return data


def _picklable(value: object, reader: int | None) -> object:
    try:
        pickle.loads(dumps_inline(value, reader=reader))
    except BaseException:  # noqa: BLE001 - see _encode_one
        return _safe(repr, value)
    return value


def _attributes(error: BaseException) -> dict[str, Any]:
    """Return what is stored on an exception besides ``args``: its dict, slots and the fields of builtin classes."""
    found = dict(getattr(error, "__dict__", {}))
    for cls in type(error).__mro__:
        for name, descriptor in vars(cls).items():
            is_field = isinstance(descriptor, (MemberDescriptorType, GetSetDescriptorType))
            if is_field and name not in _NOT_FIELDS and not name.startswith("__"):
                value = getattr(error, name, None)
                if value is not None:  # an OSError says something else with filename2=None than without
                    found[name] = value
    return found


_NOT_FIELDS = frozenset({"args", "message", "exceptions", "characters_written"})


# --- in the process that waits


def decode_exception(data: bytes, remote_traceback: Callable[[str], BaseException]) -> BaseException:
    """Return the exception of a record.

    Parameters
    ----------
    data
        What `encode_exception` returned.
    remote_traceback
        Called with the traceback's text; the result becomes the exception's ``__cause__``, as with
        `multiprocessing.Pool`. What the exception itself was raised from (or while handling) is its ``__context__``.
    """
    tb_text, fields = pickle.loads(data)
    nodes = [_Node(*node) for node in fields]
    if nodes[0].kind == _UNREAD:
        return _decode(0, nodes, {})  # with its own links, and nobody here knows where it was raised
    built: dict[int, BaseException] = {}
    for position in range(len(nodes)):
        _decode(position, nodes, built)
    for position, node in enumerate(nodes):
        exception = built[position]
        _link(exception, "__cause__", built.get(node.cause))
        _link(exception, "__context__", built.get(node.context))
        _link(exception, "__suppress_context__", node.suppress_context)
    error = built[0]
    if error.__cause__ is not None:
        _link(error, "__context__", error.__cause__)
    _link(error, "__cause__", remote_traceback(tb_text))
    return error


def _link(exception: BaseException, name: str, value: object) -> None:
    """Set one of the attributes that every exception has, whatever its class thinks of that (a frozen dataclass)."""
    vars(BaseException)[name].__set__(exception, value)


def _decode(position: int, nodes: list[_Node], built: dict[int, BaseException]) -> BaseException:
    """Build one exception, members first. A group cannot contain itself: its members are given when it is made."""
    if position in built:
        return built[position]
    node = nodes[position]
    members = [_decode(member, nodes, built) for member in node.members]
    exception: object = None
    try:
        if node.kind in (_PICKLED, _UNREAD):
            exception = loads(node.data)
        elif node.kind != _STAND_IN:
            cls, arguments, attributes = loads(node.data)
            exception = _assemble(cls, (*arguments, members) if node.kind == _GROUP else arguments, attributes)
    except KeyboardInterrupt:
        raise  # the user's own Ctrl-C
    except BaseException:  # noqa: BLE001 - user code that may even call sys.exit(); the stand-in tells what came
        exception = None
    if not isinstance(exception, BaseException):
        exception = RemoteError(node.class_name, node.message, node.args_reprs)
    built[position] = exception
    return exception


def _assemble(cls: type[BaseException], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """Make an exception without calling a ``__new__`` or ``__init__`` that a user wrote."""
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    exception: BaseException = builtin.__new__(cls, *arguments)
    if not hasattr(cls, "derive"):
        _link(exception, "args", arguments)
    for name, value in attributes.items():
        _set_field(exception, name, value)
    return exception


def _set_field(exception: BaseException, name: str, value: object) -> None:
    try:
        object.__setattr__(exception, name, value)
    except (AttributeError, TypeError):
        return  # a read-only field, which the builtin __new__ has filled


# --- texts


def _safe(text: Callable[[object], str], value: object) -> str:
    try:
        shown = text(value)
    except BaseException as error:  # noqa: BLE001 - no __repr__ may hide the error that it is part of, nor end the worker
        shown = f"<{type(value).__qualname__} whose {text.__name__}() raises {type(error).__name__}>"
    return shown if len(shown) <= MAX_REPR else f"{shown[:MAX_REPR]}... ({len(shown)} characters)"


def _class_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
