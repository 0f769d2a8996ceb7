"""The worker's side: imports find the code of the program, wherever that is."""

from __future__ import annotations

import json
import os
import sys
import tokenize
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._net.channel import open_peer_channel
from scalepool._wire.bundles import GIVE_UP_S, HERE, INSTALLED, MAIN, REFUSED
from scalepool._wire.codec import MAX_MESSAGE_BYTES
from scalepool._wire.pickling.importable import by_value_modules
from scalepool.errors import ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.metadata import Distribution, DistributionFinder

__all__ = ["CodeFinder", "LastFinder", "MainSource", "install_finders"]

_OWN: Final = frozenset({"__main__", "__mp_main__", "scalepool", "sitecustomize", "usercustomize"})
_MISSED_S: Final = 1.0
"""A part of a package that is not there is not asked for again for so long."""
_IMPORTING: Final = "_find_and_load_unlocked"
"""The function of the import system that raises when nothing is found; others only want to know."""


class CodeFinder:
    """Asks the agent for top-level modules, before anybody looks into the folders of this host.

    What the program has as code of its own is then what workers have, and the order of ``sys.path`` is the program's.

    Parameters
    ----------
    ask
        Called with (name, least count of reloads, whether it was edited just now); returns the shelf's answer.
    """

    def __init__(self, ask: Callable[[str, int, bool], dict[str, Any]]) -> None:
        self._ask = ask
        self.given: dict[str, dict[str, Any]] = {}
        """What was found with the program, by top-level name."""
        self.reasons: dict[str, str] = {}
        """Why others were not sent."""

    def find_spec(self, name: str, path: Any = None, target: object = None) -> ModuleSpec | None:
        """Find a module; see ``importlib.abc.MetaPathFinder``."""
        if path is not None:
            return self._moved(name) if target is not None else None
        if name in sys.stdlib_module_names or name in _OWN:
            return None
        known = self.given.get(name)
        if known is None or target is not None or name not in sys.modules:
            known = self.look_up(name, is_edited=target is not None)
        return None if known is None else self._spec(name, known)

    def look_up(self, name: str, *, is_edited: bool = False) -> dict[str, Any] | None:
        """Ask for a top-level module; None when it is not to be had from the program."""
        found = self._ask(name, sum(by_value_modules().reloads.values()), is_edited)
        if found["verdict"] == HERE:
            self.reasons.pop(name, None)
            self.given[name] = found
            return found
        if found["verdict"] in (REFUSED, INSTALLED):
            self.reasons[name] = found["reason"]
        return None

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Find what is said of packages that were sent; see ``importlib.metadata``."""
        from importlib.metadata import DistributionFinder, MetadataPathFinder  # rarely asked for, and heavy

        roots = [root for found in self.given.values() for root in found["roots"]]
        return MetadataPathFinder.find_distributions(DistributionFinder.Context(name=context.name, path=roots))

    def _spec(self, name: str, found: dict[str, Any]) -> ModuleSpec | None:
        roots = found["roots"]
        if not found["namespace"]:
            return PathFinder.find_spec(name, roots)
        # Others may have portions of it, too.
        spec = PathFinder.find_spec(name, [*roots, *sys.path])
        locations: Any = None if spec is None else spec.submodule_search_locations
        if hasattr(locations, "_path_finder"):
            # When sys.path changes it looks again: not on sys.path alone.
            locations._path_finder = lambda name, path: _portions(name, [*roots, *path])
        return spec

    def _moved(self, name: str) -> ModuleSpec | None:
        """Find a part of a package that was edited, together with the rest of the package, as it is now."""
        top, _, _ = name.partition(".")
        before = self.given.get(top)
        after = None if before is None else self.look_up(top, is_edited=True)
        if before is None or after is None:
            return None
        _move(top, before["roots"], after["roots"])
        return PathFinder.find_spec(name, sys.modules[name.rpartition(".")[0]].__path__)


class LastFinder:
    """Is asked when nobody has found a module: something may have been added to a package, or there is a reason.

    Parameters
    ----------
    finder
        The first one.
    """

    def __init__(self, finder: CodeFinder) -> None:
        self._finder = finder
        self._missed_at: dict[str, float] = {}

    def find_spec(self, name: str, path: Any = None, target: object = None) -> ModuleSpec | None:
        """Find a module; see ``importlib.abc.MetaPathFinder``.

        Raises
        ------
        ModuleNotFoundError
            When an import fails here whose module the program has.
        """
        reason = self._finder.reasons.get(name)
        found = self._finder.given.get(name.partition(".")[0])
        if path is not None and found is not None:
            spec = self._added(name, found)
            if spec is not None:
                return spec
            reason = _left_out(name, self._finder.given[name.partition(".")[0]]["left_out"])
        if reason and sys._getframe(2).f_code.co_name == _IMPORTING:
            host = os.uname().nodename
            raise ModuleNotFoundError(f"No module named {name!r} on host {host}: {reason}", name=name)
        return None

    def _added(self, name: str, before: dict[str, Any]) -> ModuleSpec | None:
        now = monotonic_s()
        if now < self._missed_at.get(name, 0.0):
            return None
        top, _, _ = name.partition(".")
        after = self._finder.look_up(top, is_edited=True)
        spec = None
        if after is not None and after["roots"] != before["roots"]:
            parent = name.rpartition(".")[0]
            folders = [os.path.join(root, *parent.split(".")) for root in after["roots"]]  # noqa: PTH118 - as is usual here
            spec = PathFinder.find_spec(name, folders)
        if spec is None:
            self._missed_at[name] = now + _MISSED_S
        return spec


class MainSource:
    """Tells tracebacks and ``inspect`` the source of the program's script, whose file this host does not have.

    Parameters
    ----------
    finder
        The first one.
    """

    def __init__(self, finder: CodeFinder) -> None:
        self._finder = finder
        self._text: str | None = None

    def get_source(self, name: str) -> str | None:
        """Return the script's text; see ``importlib.abc.InspectLoader``. It is brought when it is first wanted."""
        if self._text is None:
            found = self._finder.look_up(MAIN)
            try:
                with tokenize.open(os.path.join(found["roots"][0], f"{MAIN}.py")) as file:  # type: ignore[index]  # noqa: PTH118
                    self._text = file.read()
            except (TypeError, OSError, SyntaxError):
                self._text = ""  # nobody has it: the traceback does without
        return self._text or None


def install_finders(address: str) -> CodeFinder:
    """Have this process import the program's code; the agent of its host listens at ``address``."""
    first = CodeFinder(lambda name, reloads, is_edited: _ask(address, name, reloads, is_edited))
    at = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(at, first)
    sys.meta_path.append(LastFinder(first))
    return first


def _ask(address: str, name: str, reloads: int, is_edited: bool) -> dict[str, Any]:
    """Ask the agent, over a connection of its own: imports happen in any thread, and in children of the worker."""
    answers: list[bytes] = []
    deadline = monotonic_s() + GIVE_UP_S + 10.0
    try:
        channel = open_peer_channel(address, max_message_bytes=MAX_MESSAGE_BYTES)
        try:
            channel.send(json.dumps([name, reloads, is_edited]).encode())
            while not answers and monotonic_s() < deadline:
                if channel.poll(deadline - monotonic_s()):
                    channel.receive_into(answers.append)
        finally:
            channel.flush_and_close()
        if answers:
            found: dict[str, Any] = json.loads(answers[0])
            return found
        reason = "the agent of this host did not answer"
    except (OSError, ValueError, ScalepoolError) as error:
        reason = f"the agent of this host could not be asked for it: {error}"
    return {"verdict": REFUSED, "reason": reason}


def _portions(name: str, path: Sequence[str]) -> ModuleSpec | None:
    spec = PathFinder.find_spec(name, path)
    if spec is not None and spec.submodule_search_locations is not None:
        spec.submodule_search_locations = list(spec.submodule_search_locations)
    return spec


def _move(top: str, before: Sequence[str], after: Sequence[str]) -> None:
    """Have all packages below (and with) ``top`` look for their parts where the package is now."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__path__", None)
        if (name == top or name.startswith(f"{top}.")) and isinstance(path, list):
            path[:] = [_there(entry, before, after) for entry in path]


def _there(entry: str, before: Sequence[str], after: Sequence[str]) -> str:
    for old, new in zip(before, after, strict=False):
        if entry.startswith(f"{old}/"):
            return new + entry[len(old) :]
    return entry


def _left_out(name: str, left_out: dict[str, str]) -> str:
    """Return why a part of a package was not sent; empty when the program does not have it either."""
    stem = name.replace(".", "/")
    for path, why in left_out.items():
        if path.startswith((f"{stem}.", f"{stem}/__init__.")):
            return (
                f"the program has {path}, but it was not sent, for {why}. What the program itself has imported is sent "
                "whatever git says; else take it out of .gitignore, or install the package on the hosts"
            )
    return ""
