"""A short repr of pickled arguments, made without running any code of theirs.

An error shows what its task was called with. Those arguments may be what killed the worker, so they are not loaded
again for it: classes and functions in the pickle are replaced by stand-ins that know their name and nothing else.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["short_call", "short_repr"]

_LONGEST: Final = 200
_HARMLESS: Final = frozenset({"set", "frozenset", "complex", "range", "slice", "bytearray"})


class _Repr(reprlib.Repr):
    """Shortens what is inside, too."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 4
        self.maxlevel = 4


_repr: Final = _Repr()


def short_repr(value: object) -> str:
    """Return a repr of at most some 200 characters; the class's name where its ``__repr__`` fails."""
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001 - an error about an error helps nobody
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def short_call(data: bytes, item: int = 0) -> str:
    """Return ``(2, 'abc', key=...)`` for the pickle of ``(args, kwargs)``; empty when it is not to be had.

    With ``item``, counted from 1, the only argument is a sequence, and that item of it is shown.
    """
    try:
        args, kwargs = _Peeker(io.BytesIO(data), buffers=repeat(bytearray())).load()
        if item:
            args = (args[0][item - 1],)
        parts = [short_repr(value) for value in args]
        parts += [f"{name}={short_repr(value)}" for name, value in kwargs.items()]
    except Exception:  # noqa: BLE001 - what is no such pickle, or needs more than stand-ins, is not shown
        return ""
    text = ", ".join(parts)
    return f"({text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'})"


class _Meta(type):
    """A stand-in's class shows its name."""

    def __repr__(cls) -> str:
        return cls.__name__


class _StandIn(metaclass=_Meta):
    """What something of a class that is not loaded is unpickled to."""

    def __new__(cls, *args: Any, **_kwargs: Any) -> Self:
        self = object.__new__(cls)
        self.args = args
        return self

    args: tuple[Any, ...]

    def __setstate__(self, state: object) -> None:
        """Ignore it."""

    def append(self, item: object) -> None:
        """Ignore it."""

    def extend(self, items: object) -> None:
        """Ignore them."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore them."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> _StandIn:
        return self

    def __repr__(self) -> str:
        of = self.args[0] if self.args else None
        if isinstance(of, type) and issubclass(of, _StandIn):
            return (
                f"<{of.__name__}>"  # the way in which many classes are put together: a function called with the class
            )
        return f"<{type(self).__name__}>"


class _Peeker(pickle.Unpickler):
    """Loads nothing but what cannot do harm."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in."""
        if module == "builtins" and name in _HARMLESS:
            return super().find_class(module, name)
        return _Meta(name.rpartition(".")[2], (_StandIn,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Return a stand-in."""
        return _Meta("object", (_StandIn,), {})()
