"""Objects by the name of their module and their qualified name in it, as pickle finds them."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["imported", "lookup"]


def lookup(module: str, qualname: str) -> Any:
    """Return what has this name in a module that is loaded; ``None`` where there is no such thing."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def imported(module: str, qualname: str) -> Any:
    """Return the same, and import the module first.

    Raises
    ------
    ImportError
        When the module cannot be imported.
    """
    __import__(module)
    return lookup(module, qualname)
