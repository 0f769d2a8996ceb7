"""What this process has sent: tokens for values, ids for classes and functions.

A function that travels by value takes the globals it mentions with it. If the receiver simply stored them, it would
undo what an ``initializer`` or an earlier task had set; if it never did, it would miss what the sender rebound.
So every (scope, name) carries a *token*, and the receiver stores a value only when the token is new to it. A token
changes exactly when the sender's value changed: another object, or the same mutable object with other content
(pools share workers, so a dict that was edited between two pools must arrive edited).

A token is ``(sender, serial)``. Serials of one sender only grow, so a pickle that was delayed or cached cannot put an
old value back.

No lock: every step is one dict operation. Two threads that meet a new value at the same moment may both mint a token;
the receiver then stores the same value twice.
"""

from __future__ import annotations

import itertools
import pickle
import types

# Where hashlib has it from; that would load OpenSSL (3 ms, 1 MB) into every driver and worker.
from _blake2 import blake2b
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Definitions", "GlobalsLedger", "Scope", "Token"]

Token = tuple[int, int]
# A module's name, or the id of a class.
Scope = str | Token

# Classes whose attributes are remembered. They are held alive, so the number is bounded; a class that drops out
# gets new tokens, which costs no more than that its state is set once more in the workers.
MAX_CLASSES = 512

# Rebinding is the only way in which these change, so identity says it all. Exact types: a subclass may be mutable.
_NO_CONTENT = frozenset({
    type(None), bool, int, float, complex, str, bytes, types.FunctionType, types.BuiltinFunctionType, types.ModuleType,
    property, staticmethod, classmethod,
})  # fmt: skip


# Bytes of a buffer from which on a digest of it (1 s per GiB) is worth avoiding.
_LARGE_BYTES = 1 << 20


_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_EMPTY_CELL = types.CellType()


class _Entry(NamedTuple):
    token: Token
    holder: Callable[[], object]
    content: tuple[object, ...] | None


class GlobalsLedger:
    """Remembers the value last sent under each (scope, name).

    Parameters
    ----------
    sender
        A number that no other process of the session uses, e.g. its peer id.
    """

    __slots__ = ("_classes", "_first", "_modules", "_serial", "keep", "sender", "version")

    def __init__(self, sender: int) -> None:
        self.sender = sender
        self.version = 0
        """Grows whenever a name got another token: as long as it stands still, all tokens are what they were."""
        self.keep: Callable[[memoryview], int | None] = lambda _view: None
        """Returns a number for a large buffer that changes when its bytes do; ``None`` where that cannot be had."""
        self._serial = itertools.count(1)
        self._modules: dict[str, dict[str, _Entry]] = {}
        self._first: dict[tuple[Scope, str], Token] = {}
        self._classes: OrderedDict[Token, dict[str, _Entry]] = OrderedDict()

    def mint(self) -> Token:
        """Return a token that nobody has seen."""
        return self.sender, next(self._serial)

    def token(self, scope: Scope, name: str, value: object) -> Token:
        """Return the token of this value: the old one when it is unchanged since it was last sent."""
        entries = self._entries(scope)
        known = entries.get(name)
        content = _content_of(value, self.keep)
        if known is not None and known.holder() is value and known.content == content:
            return known.token
        token = self.mint()
        entries[name] = _Entry(token, _holder_of(value), content)
        self.version += 1
        return token

    def rebinding(self, scope: Scope, name: str, value: object) -> Token:
        """Return the token of this value, with serial 0 while it is the one that was sent first.

        For globals of modules that the reader imports itself: what it has under that name, perhaps set by an
        initializer there, is as good as ours until ours is bound anew.
        """
        token = self.token(scope, name, value)
        first = self._first.setdefault((scope, name), token)
        return (self.sender, 0) if token == first else token

    def adopt(self, scope: Scope, name: str, token: Token, value: object) -> None:
        """Note a value that came from elsewhere, so that it goes on under the token it came with."""
        if _is_identity_enough(value):
            self._entries(scope)[name] = _Entry(token, _holder_of(value), None)
            self.version += 1

    def _entries(self, scope: Scope) -> dict[str, _Entry]:
        if isinstance(scope, str):
            return self._modules.setdefault(scope, {})
        entries = self._classes.setdefault(scope, {})
        self._classes.move_to_end(scope)
        if len(self._classes) > MAX_CLASSES:
            self._classes.popitem(last=False)
        return entries


class Definitions:
    """Ids of the classes and functions that travel by value, the same in every process of the session.

    Parameters
    ----------
    ledger
        Mints the ids, so the first half of an id names the process where the thing was defined.
    """

    __slots__ = ("_by_id", "_ids", "_ledger", "_recent")

    def __init__(self, ledger: GlobalsLedger) -> None:
        self._ledger = ledger
        self._ids: WeakKeyDictionary[object, Token] = WeakKeyDictionary()
        self._by_id: WeakValueDictionary[Token, object] = WeakValueDictionary()
        # A notebook may redefine a class while its instances are on the way back: keep the latest ones alive.
        self._recent: OrderedDict[Token, object] = OrderedDict()

    def id_of(self, definition: object) -> Token:
        """Return the id of a class or function, minting one when it has none."""
        identity = self._ids.get(definition)
        if identity is None:
            identity = self._ledger.mint()
            self._ids[definition] = identity
            self._by_id[identity] = definition
        if identity[0] == self._ledger.sender and isinstance(definition, type):  # a function has no instances
            self._recent[identity] = definition
            self._recent.move_to_end(identity)
            if len(self._recent) > MAX_CLASSES:
                self._recent.popitem(last=False)
        return identity

    def origin_of(self, definition: object) -> int | None:
        """Return the sender that defined it, ``None`` when it has not travelled yet."""
        identity = self._ids.get(definition)
        return None if identity is None else identity[0]

    def get(self, identity: Token) -> object | None:
        """Return what is known under this id."""
        return self._by_id.get(identity)

    def is_native(self, definition: object) -> bool:
        """Tell whether it was defined in this process, so that nobody else's version may change it."""
        return self.origin_of(definition) == self._ledger.sender

    def receive(self, identity: Token, definition: object) -> None:
        """Note what was just rebuilt here under an id from elsewhere."""
        self._ids[definition] = identity
        self._by_id[identity] = definition


class _Parts:
    """What a function consists of and may get other ones of: code, defaults, attributes, variables of its closure.

    Equal to another when all parts are the same objects, for numbers and strings also the same value. Keeps none alive.
    """

    __slots__ = ("_parts",)

    def __init__(self, function: types.FunctionType) -> None:
        parts: list[object] = [_part(function.__code__), *map(_part, function.__defaults__ or ())]
        for attributes in (function.__kwdefaults__ or {}, function.__dict__):
            for name, value in list(attributes.items()):
                parts += (name, _part(value))
                if name == "registry" and isinstance(value, Mapping):  # functools.singledispatch
                    parts += [_part(part) for pair in list(value.items()) for part in pair]
        parts += [_part(cell) for cell in function.__closure__ or ()]
        parts += [_part(cell.cell_contents) for cell in function.__closure__ or () if cell != _EMPTY_CELL]
        self._parts = parts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Parts) or len(self._parts) != len(other._parts):
            return False
        return all(one is two or _same_scalar(one, two) for one, two in zip(self._parts, other._parts, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _part(value: object) -> object:
    if type(value) in _SCALARS:
        return value
    try:
        return ref(value)  # always the same one for the same object
    except TypeError:
        return id(value)


def _same_scalar(one: object, two: object) -> bool:
    return type(one) is type(two) and type(one) in _SCALARS and one == two


def _holder_of(value: object) -> Callable[[], object]:
    """Hold weakly what allows it; the rest strongly, so that its id cannot be used again."""
    try:
        return ref(value)
    except TypeError:
        return lambda: value


def _is_identity_enough(value: object) -> bool:
    return type(value) in _NO_CONTENT or isinstance(value, type)


def _content_of(value: object, keep: Callable[[memoryview], int | None]) -> tuple[object, ...] | None:
    """Return a digest of a mutable value and numbers for its large buffers; ``None``: identity alone has to do."""
    if type(value) is types.FunctionType:
        return (_Parts(value),)
    if _is_identity_enough(value):
        return None
    digest = blake2b(digest_size=16)
    buffers: list[pickle.PickleBuffer] = []
    numbers: list[int] = []
    try:
        digest.update(pickle.dumps(value, 5, buffer_callback=buffers.append))
        for buffer in buffers:
            view = buffer.raw()
            number = keep(view) if view.nbytes >= _LARGE_BYTES else None
            if number is None:
                digest.update(view)
            else:
                numbers.append(number)
    except Exception:  # noqa: BLE001 - any error of foreign code means: no digest to be had, identity has to do
        return None
    return digest.digest(), *numbers
