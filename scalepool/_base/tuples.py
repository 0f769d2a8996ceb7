"""``typing.NamedTuple``, at half its price and without importing ``typing``.

A program pays for every class that is made before its first task, twice: here and in the zygote. A frozen dataclass is
0.5 ms (and 5 ms for its module), a ``typing.NamedTuple`` 0.08 ms (and 9 ms), one of these 0.04 ms. To a type checker
they are ``typing.NamedTuple``.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    # What a class body holds beside its fields, its methods and its docstring.
    _KEPT_OUT = frozenset({"__annotations__", "__module__", "__qualname__"})

    class _Maker(type):
        """Turns the body of a class into a named tuple."""

        def __new__(cls, name, _bases, namespace):
            """Return the named tuple."""
            fields = namespace.get("__annotations__", {})
            given = [field for field in fields if field in namespace]
            if given != list(fields)[len(fields) - len(given) :]:
                raise TypeError(f"a field of {name} without a default follows one that has a default")
            defaults = [namespace[field] for field in given]
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])  # noqa: PYI024
            made.__qualname__ = namespace["__qualname__"]
            made.__annotations__ = dict(fields)
            for key, value in namespace.items():
                if key not in _KEPT_OUT and key not in fields:
                    setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})

__all__ = ["NamedTuple"]
