"""Code of programs that may be gone: what they have sent ahead for their detached actors, and how it is handed out."""

from __future__ import annotations

import sys
import sysconfig
from collections import deque
from typing import TYPE_CHECKING

from scalepool._base.clock import monotonic_s
from scalepool._base.tuples import NamedTuple
from scalepool._runtime.travel.library import CodeLibrary, find_code
from scalepool._wire.bundles import HERE, MISSING, Answer, Question, add_part, part_of
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CodeRecord", "OwnCode"]

_LATER = "no program that has made a detached actor had imported it by then; import it before the actor is made"


class OwnCode:
    """The modules of its own that this program has imported, ready to be sent.

    Parameters
    ----------
    limit_bytes
        What a package may take.
    note
        Called with what the user should know.
    """

    def __init__(self, limit_bytes: int, note: Callable[[str], object]) -> None:
        self._library = CodeLibrary(limit_bytes, note, bool)
        self._platform = sysconfig.get_platform()
        self._answers: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        """Of each top-level module, what names its content."""
        for name in sorted({name.partition(".")[0] for name in list(sys.modules)} - sys.stdlib_module_names):
            if find_code(name).verdict != HERE:
                continue
            data = self._library.answer(Question(name, self._platform), monotonic_s())
            answer = Answer.decode(data)
            if answer.verdict == HERE:
                self._answers[name], self.digests[name] = data, answer.digest

    def bundle(self, name: str) -> tuple[bytes, bytes]:
        """Return what is said of a module, and its content.

        Raises
        ------
        ProtocolError
            When its files have changed meanwhile.
        """
        body, is_all = b"", False
        while not is_all:
            question = Question(name, self._platform, 0, self.digests[name], len(body))
            body, is_all = add_part(body, self._library.answer(question, monotonic_s()))
        return self._answers[name], body


class _Bundle(NamedTuple):
    answer: bytes
    digest: str
    body: bytes


class CodeRecord:
    """In place of a `CodeLibrary`: answers the questions of hosts out of what programs have sent.

    Parameters
    ----------
    wake
        Called when an answer is ready.

    Attributes
    ----------
    answers
        As of a `CodeLibrary`.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self.answers: deque[tuple[tuple[int, int], bytes]] = deque()
        self._bundles: dict[str, _Bundle] = {}

    def missing(self, digests: Mapping[str, str]) -> list[str]:
        """Return those of these modules whose content is not here."""
        found = self._bundles
        return [name for name, digest in digests.items() if name not in found or found[name].digest != digest]

    def add(self, name: str, answer: bytes, body: bytes) -> None:
        """Take in the content of a module, in place of what it was before.

        Raises
        ------
        ProtocolError
            When it makes no sense.
        """
        self._bundles[name] = _Bundle(answer, Answer.decode(answer).digest, body)

    def ask(self, asker: tuple[int, int], question: bytes) -> None:
        """Answer a question, of a node under a number."""
        try:
            asked = Question.decode(question)
        except ProtocolError:
            return  # whoever that was gets no answer
        found = self._bundles.get(asked.name)
        if asked.digest:
            answer = part_of(found.body, asked.offset) if found is not None and found.digest == asked.digest else b""
        else:
            answer = Answer(MISSING, _LATER).encode() if found is None else found.answer
        self.answers.append((asker, answer))
        self._wake()

    def close(self) -> None:
        """Nothing is left to be done."""
