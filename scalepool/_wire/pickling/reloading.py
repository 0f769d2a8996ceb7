"""Modules that are edited while the program runs: to see it in the driver, and to do the same in workers.

``importlib.reload`` is seen by a finder (see ``elsewhere``). IPython's ``%autoreload`` does not always reload: where
only functions were edited, it gives the new code to the functions that there are.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reload_in_place", "watch_patches"]

_PATCHES: Final = "IPython.extensions.deduperreload.deduperreload"
_OF_FUNCTION: Final = ("__defaults__", "__kwdefaults__", "__doc__", "__annotations__")
_OF_CLASS_ITSELF: Final = frozenset({"__dict__", "__weakref__", "__slots__", "__module__"})


def watch_patches(on_reload: Callable[[str], None]) -> None:
    """Have every module whose functions IPython edits in place reported as one that was reloaded.

    Parameters
    ----------
    on_reload
        Called with the module's name.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return
    try:
        reloader: Any = importlib.import_module(_PATCHES).DeduperReloader
        patch = reloader.maybe_reload_module
    except (ImportError, AttributeError):
        return  # an older version, which reloads, or a later one, whose tests will tell

    @functools.wraps(patch)
    def maybe_reload_module(self: object, module: ModuleType) -> bool:
        is_done = bool(patch(self, module))
        if is_done:
            on_reload(module.__name__)
        return is_done

    reloader.maybe_reload_module = maybe_reload_module


def reload_in_place(module: ModuleType) -> None:
    """Reload a module, and give what others have imported from it (``from module import f``) the new code, too.

    Workers are then as those that import the edited module for the first time.
    """
    before = dict(vars(module))
    importlib.invalidate_caches()
    importlib.reload(module)
    for name, old in before.items():
        if getattr(old, "__module__", None) == module.__name__:
            _update(old, vars(module).get(name))


def _update(old: object, new: object) -> None:
    if old is new:
        return
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        if len(old.__code__.co_freevars) == len(new.__code__.co_freevars):
            old.__code__ = new.__code__
            for name in _OF_FUNCTION:
                setattr(old, name, getattr(new, name))
            old.__dict__.update(new.__dict__)
    elif isinstance(old, type) and isinstance(new, type):
        _update_class(old, new)


def _update_class(old: type, new: type) -> None:
    had, has = dict(vars(old)), dict(vars(new))
    for name in had.keys() - has.keys() - _OF_CLASS_ITSELF:
        with contextlib.suppress(AttributeError, TypeError):  # the metaclass forbids it
            delattr(old, name)
    for name in has.keys() - _OF_CLASS_ITSELF:
        value, before = has[name], had.get(name)
        if isinstance(value, FunctionType) and isinstance(before, FunctionType):
            _update(before, value)  # which keeps the class that its super() means
        elif not hasattr(type(value), "__objclass__"):  # a slot belongs to its class
            with contextlib.suppress(AttributeError, TypeError):
                setattr(old, name, value)
