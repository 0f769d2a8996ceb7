"""What this process has received: one namespace per module, and how recent each name in it is.

``__main__``
    In a worker a synthetic module (`Namespaces.install_main`). Elsewhere the user's own, whose names are never
    overwritten by what comes back from a worker.
importable modules
    The module itself, imported here. Nothing of it travels: functions by value and functions by reference of one
    module then see the same globals, as with a freshly started worker of multiprocessing.
other modules
    A dict kept here under the module's name.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from scalepool._wire.pickling.ledger import GlobalsLedger, Token

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Captured", "Namespaces"]

Namespace = dict[str, Any]
Captured = dict[str, tuple[Token | None, Any]]
_Seen = dict[tuple[str, int], int]

MAIN = "__main__"
_nowhere = ModuleType("nowhere")


class Namespaces:
    """The namespaces of the functions that came by value.

    Parameters
    ----------
    ledger
        Told about every value that is stored, so that it goes on under its token.
    """

    __slots__ = ("_class_seen", "_ledger", "_main", "_private", "_seen")

    def __init__(self, ledger: GlobalsLedger) -> None:
        self._ledger = ledger
        self._main: ModuleType | None = None
        self._private: dict[str, Namespace] = {}
        self._seen: dict[str, _Seen] = {}
        self._class_seen: WeakKeyDictionary[type, _Seen] = WeakKeyDictionary()

    def install_main(self) -> ModuleType:
        """Put an empty synthetic ``__main__`` into ``sys.modules``; a worker does so before its first task."""
        self._main = sys.modules[MAIN] = ModuleType(MAIN)
        return self._main

    @property
    def has_own_main(self) -> bool:
        """True where ``__main__`` belongs to a user, so that received values must not overwrite its names."""
        return self._main is None

    def imported(self, module: str) -> Namespace:
        """Return the globals of a module that can be imported here."""
        return vars(importlib.import_module(module))

    def private(self, module: str, attributes: Mapping[str, Any]) -> Namespace:
        """Return the globals of ``__main__`` or of a module that cannot be imported here.

        Parameters
        ----------
        module
            Its name on the sending side.
        attributes
            ``__file__``, ``__package__`` and the like; set where missing.
        """
        if module == MAIN:
            if self._main is None:
                return vars(sys.modules[MAIN])
            namespace = vars(self._main)
        else:
            namespace = self._private.setdefault(module, {"__name__": module})
        for name, value in attributes.items():
            if namespace.get(name) is None:
                namespace[name] = value
        return namespace

    def store(self, module: str, namespace: Namespace, captured: Captured) -> None:
        """Store the captured globals of ``module`` that are new here into its ``namespace``."""
        if self.has_own_main and namespace is vars(sys.modules.get(module, _nowhere)):
            for name, (_, value) in captured.items():
                namespace.setdefault(name, value)
            return
        seen = self._seen.setdefault(module, {})
        for name, (token, value) in captured.items():
            if token is not None and not token[1]:
                namespace.setdefault(name, value)
            elif token is None or _is_news(seen, name, token):
                namespace[name] = value
                if token is not None:
                    self._ledger.adopt(module, name, token, value)

    def class_news(self, cls: type, identity: Token, captured: Captured) -> dict[str, Any]:
        """Return the attributes of a class by value that are new here, and note that they have been seen."""
        seen = self._class_seen.setdefault(cls, {})
        news = {}
        for name, (token, value) in captured.items():
            if token is None or _is_news(seen, name, token):
                news[name] = value
                if token is not None:
                    self._ledger.adopt(identity, name, token, value)
        return news


def _is_news(seen: _Seen, name: str, token: Token) -> bool:
    """Compare with the last serial of the same sender, so that senders do not undo each other in turn."""
    sender, serial = token
    if serial <= seen.get((name, sender), 0):
        return False
    seen[name, sender] = serial
    return True
