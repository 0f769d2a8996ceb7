"""Functions ready to travel: each is pickled once and named by a hash of its pickle."""

from __future__ import annotations

# Where hashlib has it from; that would load OpenSSL (3 ms, 1 MB) into every driver and worker.
from _blake2 import blake2b
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from scalepool._base.tuples import NamedTuple
from scalepool._runtime.parts import has_arrays
from scalepool._wire.pickling.fingerprint import function_fingerprint
from scalepool.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._runtime.packing import Packed, PackedFunction, Packer
    from scalepool._wire.pickling.fingerprint import Fingerprint

__all__ = ["Exporter", "Function"]

_KEEP: Final = 256
_KEEP_LARGE: Final = 8


class Function:
    """A function that was pickled: pass it to ``WorkerGroup.submit`` any number of times."""

    __slots__ = ("__weakref__", "id", "name", "packed")

    def __init__(self, packed: Packed, name: str) -> None:
        digest = blake2b(packed.data, digest_size=8).digest()
        self.id = int.from_bytes(digest, "little") >> 1
        self.packed = packed
        self.name = name

    @property
    def has_arrays(self) -> bool:
        """Whether it carries large arrays, each of its tasks with a copy of its own."""
        return has_arrays(self.packed.data)

    def __repr__(self) -> str:
        return f"<Function {self.name} {self.id:016x}>"


class Exporter:
    """Pickles functions, and remembers those whose pickle cannot have changed.

    A function that travels by value takes along the globals and closure cells that it uses, as they are at that
    moment. Its pickle is used again only while all of them are the same immutable things.
    """

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._cache: OrderedDict[int, tuple[Any, Fingerprint, Function]] = OrderedDict()
        self._large: dict[int, _Large] = {}

    def export(self, fn: Callable[..., Any]) -> Function:
        """Return ``fn`` ready to travel.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        same = self.same(fn)
        if same is not None:
            return same
        found = self._cache.get(id(fn))
        if not callable(fn):
            raise TypeError(f"{fn!r} is not callable")
        fingerprint = function_fingerprint(fn)
        if found is not None and fingerprint is not None and found[0] is fn and found[1] == fingerprint:
            self._cache[id(fn)] = (fn, fingerprint, found[2])  # the newer one holds where the older did not
            return found[2]
        large = self._large.get(id(fn))
        before = large if large is not None and large.holder() is fn else None
        try:
            packed = self._packer.pack_function(fn, None if before is None else before.packed)
        except SerializationError as error:
            _name_parts(error, fn)
            raise
        if before is not None and packed is before.packed:
            return before.function
        function = Function(packed.packed, name_of(fn))
        if packed.digest:
            self._keep_large(fn, packed, function)
        if fingerprint is not None and not function.packed.references:
            self._cache[id(fn)] = (fn, fingerprint, function)
            self._cache.move_to_end(id(fn))
            if len(self._cache) > _KEEP:
                self._cache.popitem(last=False)
        return function

    def same(self, fn: Callable[..., Any]) -> Function | None:
        """Return what ``fn`` was exported as, if all is certainly as it was; ``None``: that is to be found out."""
        found = self._cache.get(id(fn))
        return found[2] if found is not None and found[0] is fn and found[1].holds() else None

    def _keep_large(self, fn: object, packed: PackedFunction, function: Function) -> None:
        """Remember it while the user has it: pickled again and found to be the same, it need not be sent again."""
        key, kept = id(fn), self._large
        try:
            holder = ref(fn, lambda gone: kept.pop(key) if key in kept and kept[key].holder is gone else None)
        except TypeError:
            return
        kept.pop(key, None)
        kept[key] = _Large(holder, packed, function)
        if len(kept) > _KEEP_LARGE:
            kept.pop(next(iter(kept)), None)


class _Large(NamedTuple):
    """A function whose large pickle lies in the store."""

    holder: ref[Any]
    packed: PackedFunction
    function: Function


def _name_parts(error: SerializationError, fn: object) -> None:
    """Leave out of the culprit's path what is ours: a function around the user's, which it has as ``fn``."""
    place = "function"
    while type(fn).__module__.startswith("scalepool.") and hasattr(fn, "fn"):
        fn, place = fn.fn, place + "[0]"
    error.rename_path(place, "function")


def name_of(fn: object) -> str:
    """Return a name for messages."""
    for _ in range(10):
        inner = getattr(fn, "func", None) or getattr(fn, "fn", None)
        if inner is None or not callable(inner):
            break
        fn = inner
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return str(name)
