"""Steps that wait for a module of somebody else to be imported, so that we need not import it ourselves.

An entry in ``sys.meta_path`` waits; when its module is imported it removes itself, finds the module as anybody would,
and takes the step once the module's own code has run.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["after_import", "forget"]


def after_import(name: str, step: Callable[[ModuleType], object]) -> None:
    """Take ``step(module)`` when the module of this name has been imported: now, or when somebody does so.

    Parameters
    ----------
    name
        Full name of the module.
    step
        What to do then; of several for one module the last one given is taken first.
    """
    module = sys.modules.get(name)
    # A module that is being imported at this moment is in there, too, half made.
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        step(module)
    else:
        sys.meta_path.insert(0, _Hook(name, step))


def forget(name: str, step: Callable[[ModuleType], object]) -> None:
    """Do not wait any longer to take ``step`` for this module."""
    sys.meta_path[:] = [one for one in sys.meta_path if not (isinstance(one, _Hook) and one.waits_for(name, step))]


class _Hook:
    """Finds nothing itself; lends the module that it waits for a loader that takes the step."""

    def __init__(self, name: str, step: Callable[[ModuleType], object]) -> None:
        self._name = name
        self._step = step

    def waits_for(self, name: str, step: Callable[[ModuleType], object]) -> bool:
        """Whether it is the hook for this."""
        return self._name == name and self._step == step

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._step)
                return spec  # type: ignore[no-any-return]
        return None


class _Loader:
    """The module's own loader, and one step after it."""

    def __init__(self, loader: Any, step: Callable[[ModuleType], object]) -> None:
        self._loader = loader
        self._step = step

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        # Give the real loader back first: pkgutil and inspect ask for it.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._step(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
