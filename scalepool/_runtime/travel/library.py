"""The program's side: finds the code that hosts ask for, and hands it out.

In a thread of its own, since reading a package may take a while and hosts may ask at any moment. Nothing is imported
here: what is asked for is looked up as an import would do it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import site
import sys
import sysconfig
import threading
from collections import OrderedDict, deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._base.tuples import NamedTuple
from scalepool._runtime.travel.gathering import Portion, gather
from scalepool._runtime.travel.rules import Host, is_local
from scalepool._wire.bundles import HERE, INSTALLED, MAIN, MISSING, REFUSED, Answer, Question, pack, part_of
from scalepool._wire.pickling.importable import by_value_modules
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

    from scalepool._runtime.travel.gathering import Gathered

__all__ = ["CodeLibrary", "find_code"]

_KEPT_S: Final = 1.0
"""How long an answer holds, unless a module is reloaded: many workers ask at once."""
_TIMES: Final = 10
_BODIES: Final = 4
_OWN: Final = "scalepool"


class Found(NamedTuple):
    """Where a top-level module is: its portions, or why there are none to send."""

    verdict: str
    reason: str = ""
    portions: Sequence[Portion] = ()
    namespace: bool = False


class CodeLibrary:
    """Answers the questions of hosts.

    Parameters
    ----------
    limit_bytes
        What a package may take.
    note
        Called, in the library's thread, with what the user should know.
    wake
        Called there when an answer is ready.

    Attributes
    ----------
    answers
        What is to be sent: who asked, and the answer.
    """

    def __init__(self, limit_bytes: int, note: Callable[[str], object], wake: Callable[[], object]) -> None:
        self._limit_bytes = limit_bytes
        self._note = note
        self._wake = wake
        self.answers: deque[tuple[tuple[int, int], bytes]] = deque()
        self._questions: SimpleQueue[tuple[tuple[int, int], bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._kept: dict[tuple[str, str], tuple[float, int, Answer]] = {}
        self._gathered: dict[tuple[str, str], tuple[str, Gathered]] = {}
        """The last answer's content, and its digest."""
        self._bodies: OrderedDict[str, bytes] = OrderedDict()

    def ask(self, asker: tuple[int, int], question: bytes) -> None:
        """Have a question answered, of a node under a number."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="scalepool-code", daemon=True)
            self._thread.start()
        self._questions.put((asker, question))

    def close(self) -> None:
        """Answer no more."""
        self._questions.put(None)

    def _run(self) -> None:
        while (asked := self._questions.get()) is not None:
            asker, question = asked
            try:
                answer = self.answer(Question.decode(question), monotonic_s())
            except ProtocolError:
                continue  # whoever that was gets no answer
            except Exception as error:  # noqa: BLE001 - finders of others' may raise anything, and somebody waits
                answer = Answer(REFUSED, f"it could not be read: {type(error).__name__}: {error}").encode()
            self.answers.append((asker, answer))
            self._wake()

    def answer(self, question: Question, now_s: float) -> bytes:
        """Return an answer, or the part of a bundle that was asked for: empty when there is none (any more)."""
        key = question.name, question.platform
        if question.digest:
            return self._part(question, *self._gathered.get(key, ("", None)))
        reloads = sum(by_value_modules().reloads.values())
        kept = self._kept.get(key)
        if kept is not None and not question.fresh and now_s < kept[0] and kept[1] == reloads:
            return kept[2].encode()
        started_s = monotonic_s()
        answer = self._look_up(question)
        if answer.verdict != MISSING:
            # Longer where looking takes long.
            holds_s = max(_KEPT_S, _TIMES * (monotonic_s() - started_s))
            self._kept[key] = now_s + holds_s, reloads, answer
        return answer.encode()

    def _look_up(self, question: Question) -> Answer:
        found = find_code(question.name)
        if found.verdict != HERE:
            return Answer(found.verdict, found.reason)
        is_same = question.platform == sysconfig.get_platform()
        host = Host(importlib.machinery.EXTENSION_SUFFIXES, is_same)
        gathered = gather(question.name, found.portions, host, self._limit_bytes)
        if gathered.refusal:
            self._note(f"{gathered.refusal}. Hosts use their own, where they have it")
            return Answer(REFUSED, gathered.refusal)
        answer = Answer(
            HERE, "", [portion.root for portion in found.portions], gathered.entries, gathered.left_out,
            found.namespace, gathered.in_place,
        )  # fmt: skip
        self._gathered[question.name, question.platform] = answer.digest, gathered
        return answer

    def _part(self, question: Question, digest: str, gathered: Gathered | None) -> bytes:
        """Return a part of a bundle, which is kept for the next host; empty when its files have changed."""
        if gathered is None or digest != question.digest:
            return b""
        body = self._bodies.get(digest)
        if body is None:
            contents = gathered.read()
            if contents is None:
                return b""
            body = self._bodies[digest] = pack(contents)
            if len(self._bodies) > _BODIES:
                self._bodies.popitem(last=False)
            if gathered.note:
                self._note(gathered.note)
        self._bodies.move_to_end(digest)
        return part_of(body, question.offset)


def find_code(name: str) -> Found:
    """Return where the program has a top-level module, and whether that is code of its own."""
    if not name.isidentifier():
        return Found(MISSING)
    if name == _OWN:
        return Found(INSTALLED, "hosts have their own")
    if name == MAIN:
        return _script()
    spec = _spec_of(name)
    if spec is None:
        return Found(MISSING)
    places = _installed_places()
    locations = [*map(os.path.abspath, spec.submodule_search_locations or ())]
    if spec.origin is None or not spec.has_location:
        portions = [Portion(os.path.dirname(one), one) for one in locations if is_local(one, places)]  # noqa: PTH120
        portions = [one for one in portions if _has_code(one.path)]
        return Found(HERE, "", portions, namespace=True) if portions else _installed(name)
    origin = os.path.abspath(spec.origin)  # noqa: PTH100 - one module for all of it
    if not is_local(origin, places):
        return _installed(name)
    if not os.path.isfile(origin):  # noqa: PTH113
        return Found(REFUSED, f"the program has it in {origin}, and only what is in files of its own is sent")
    path = os.path.dirname(origin) if spec.submodule_search_locations is not None else origin  # noqa: PTH120
    return Found(HERE, "", [Portion(os.path.dirname(path), path)])  # noqa: PTH120


def _script() -> Found:
    file = getattr(sys.modules.get(MAIN), "__file__", None)
    if not isinstance(file, str) or not os.path.isfile(file):  # noqa: PTH113
        return Found(MISSING)
    path = os.path.abspath(file)  # noqa: PTH100
    return Found(HERE, "", [Portion(os.path.dirname(path), path)])  # noqa: PTH120


def _spec_of(name: str) -> ModuleSpec | None:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(spec, importlib.machinery.ModuleSpec) and spec.name == name:
        return spec
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def _installed(name: str) -> Found:
    return Found(
        INSTALLED,
        f"the program has {name!r} as an installed package, and these are not sent: install it on the hosts, too",
    )


def _installed_places() -> list[str]:
    paths = sysconfig.get_paths()
    places = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [*getattr(site, "getsitepackages", list)(), getattr(site, "USER_SITE", None) or ""]
    return [os.path.abspath(place) for place in places if place]  # noqa: PTH100


def _has_code(folder: str) -> bool:
    """Tell a namespace package from a folder that import takes for one."""
    for _, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".")]
        if any(one.endswith(".py") for one in files):
            return True
    return False
