"""A host's side: what its workers ask for is asked of the program once, and kept for all of them.

Code that lies on the host where it does with the program, and is the same, is used there: folders that both share, or
a cluster of one machine. All else is brought once for each content, into a folder of the session's own.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from typing import TYPE_CHECKING, Any, Final

from scalepool._wire.bundles import (
    GIVE_UP_S,
    HERE,
    INSTALLED,
    REFUSED,
    Answer,
    Question,
    add_part,
    content_digest,
    is_metadata,
    unpack,
)  # fmt: skip
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._wire.bundles import Entry

__all__ = ["CodeShelf"]

_AGAIN_S: Final = 10.0
"""A question is repeated after this: a link may have been lost and come back."""
_KEPT_S: Final = 1.0
"""How long an answer holds that may change."""
_TRIES: Final = 4
"""How often a bundle is asked for that changes while it is brought."""


class _Errand:
    """A question that the program has not answered yet."""

    __slots__ = ("again_at", "answer", "body", "ends_at", "is_edited", "name", "reloads", "request", "tell", "tries")

    def __init__(self, name: str, reloads: int, is_edited: bool, now_s: float) -> None:
        self.name = name
        self.reloads = reloads
        self.is_edited = is_edited
        self.tell: list[Callable[[bytes], object]] = []
        self.answer: Answer | None = None
        self.body = b""
        self.request = 0
        self.tries = 0
        self.again_at = 0.0
        self.ends_at = now_s + GIVE_UP_S


class CodeShelf:
    """The code of one session on one host.

    Parameters
    ----------
    folder
        Where it may put what is brought; made when it is needed.
    ask
        Called with (request, question) to ask the program; the answer comes to ``arrived``.
    """

    def __init__(self, folder: str, ask: Callable[[int, bytes], object]) -> None:
        self._folder = folder
        self._ask = ask
        self._platform = sysconfig.get_platform()
        self._count = 0
        self._errands: dict[int, _Errand] = {}
        self._by_name: dict[str, _Errand] = {}
        self._kept: dict[str, tuple[bytes, int, float]] = {}
        """By name: what to tell, the count of reloads it holds for, and until when it does."""
        self._same: set[str] = set()
        """Digests of what lies on this host as it does with the program."""

    def seek(self, data: bytes, tell: Callable[[bytes], object], now_s: float) -> None:
        """A worker wants a top-level module: tell it where that is.

        Raises
        ------
        ProtocolError
            When the question makes no sense.
        """
        name, reloads, is_edited = _read(data)
        kept = self._kept.get(name)
        if kept is not None and not is_edited and kept[1] >= reloads and now_s < kept[2]:
            tell(kept[0])
            return
        errand = self._by_name.get(name)
        if errand is None or is_edited or errand.reloads < reloads:
            errand = self._by_name[name] = _Errand(name, reloads, is_edited, now_s)
            self._send(errand, now_s)
        errand.tell.append(tell)

    def arrived(self, request: int, data: bytes, now_s: float) -> None:
        """The program has answered, or a part of a bundle came."""
        errand = self._errands.pop(request, None)
        if errand is None:
            return  # the answer to a question that was repeated
        try:
            if errand.answer is None:
                self._take(errand, Answer.decode(data), now_s)
            else:
                self._take_part(errand, errand.answer, data, now_s)
        except (ProtocolError, OSError) as error:
            self._refuse(errand, f"what the program sent cannot be used here: {error}", now_s)

    def look(self, now_s: float) -> None:
        """Repeat questions that are not answered; give up those that have waited for long."""
        for request, errand in list(self._errands.items()):
            if now_s >= errand.ends_at:
                del self._errands[request]
                self._refuse(errand, f"the program has not answered within {GIVE_UP_S:.0f} seconds", now_s)
            elif now_s >= errand.again_at:
                errand.again_at = now_s + _AGAIN_S
                self._ask(request, self._question(errand))

    # ---- one errand ----

    def _send(self, errand: _Errand, now_s: float) -> None:
        self._count += 1
        errand.request = self._count
        errand.again_at = now_s + _AGAIN_S
        self._errands[self._count] = errand
        self._ask(self._count, self._question(errand))

    def _question(self, errand: _Errand) -> bytes:
        digest = "" if errand.answer is None else errand.answer.digest
        return Question(errand.name, self._platform, int(errand.is_edited), digest, len(errand.body)).encode()

    def _take(self, errand: _Errand, answer: Answer, now_s: float) -> None:
        if answer.verdict != HERE:
            # Nothing is installed while a program runs, and what it cannot send it may be able to send later.
            holds_s = GIVE_UP_S if answer.verdict == INSTALLED else _KEPT_S
            self._finish(errand, {"verdict": answer.verdict, "reason": answer.reason}, now_s, holds_s)
            return
        digest = answer.digest
        if answer.in_place and (digest in self._same or all(_is_same(answer, entry) for entry in answer.entries)):
            self._same.add(digest)
            self._found(errand, answer, list(answer.roots), now_s)
        elif os.path.isdir(os.path.join(self._folder, digest)):  # noqa: PTH112, PTH118 - one module for all of it
            self._found(errand, answer, self._roots(answer), now_s)
        else:
            errand.answer, errand.body = answer, b""
            self._send(errand, now_s)

    def _take_part(self, errand: _Errand, answer: Answer, data: bytes, now_s: float) -> None:
        try:
            errand.body, is_whole = add_part(errand.body, data)
            if not is_whole:
                self._send(errand, now_s)
                return
            self._unpack(answer, errand.body)
        except ProtocolError:
            # It was edited while it was brought.
            errand.tries += 1
            if errand.tries >= _TRIES:
                raise
            errand.answer, errand.body, errand.is_edited = None, b"", True
            self._send(errand, now_s)
        else:
            self._found(errand, answer, self._roots(answer), now_s)

    def _unpack(self, answer: Answer, body: bytes) -> None:
        whole = os.path.join(self._folder, answer.digest)  # noqa: PTH118
        if os.path.isdir(whole):  # noqa: PTH112
            return  # two had asked
        part = f"{whole}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            for number in range(len(answer.roots)):
                os.makedirs(f"{part}/{number}", mode=0o700)  # noqa: PTH103
            for entry, content in unpack(answer.entries, body):
                _write(os.path.join(part, entry.path), content, executable=bool(entry.executable))  # noqa: PTH118
            os.rename(part, whole)  # noqa: PTH104
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _roots(self, answer: Answer) -> list[str]:
        return [f"{self._folder}/{answer.digest}/{number}" for number in range(len(answer.roots))]

    def _found(self, errand: _Errand, answer: Answer, roots: list[str], now_s: float) -> None:
        found = {"verdict": HERE, "roots": roots, "namespace": answer.namespace, "left_out": dict(answer.left_out)}
        self._finish(errand, found, now_s, _KEPT_S)

    def _refuse(self, errand: _Errand, reason: str, now_s: float) -> None:
        self._finish(errand, {"verdict": REFUSED, "reason": reason}, now_s, _KEPT_S)

    def _finish(self, errand: _Errand, found: dict[str, Any], now_s: float, holds_s: float) -> None:
        data = json.dumps(found).encode()
        if self._by_name.get(errand.name) is errand:
            del self._by_name[errand.name]
            self._kept[errand.name] = data, errand.reloads, now_s + holds_s
        for tell in errand.tell:
            tell(data)


def _read(data: bytes) -> tuple[str, int, bool]:
    try:
        name, reloads, is_edited = json.loads(data)
        if isinstance(name, str) and isinstance(reloads, int):
            return name, reloads, bool(is_edited)
    except (ValueError, TypeError):
        pass
    raise ProtocolError("not a question about code")


def _is_same(answer: Answer, entry: Entry) -> bool:
    """Tell whether a file lies on this host where it does with the program, with the same content."""
    number, _, path = entry.path.partition("/")
    if is_metadata(entry.path):
        return True  # what the host knows of packages it knows already
    try:
        with open(os.path.join(answer.roots[int(number)], path), "rb") as file:  # noqa: PTH118, PTH123
            if os.fstat(file.fileno()).st_size != entry.size_bytes:
                return False
            return content_digest(file.read()) == entry.digest
    except OSError:
        return False


def _write(path: str, content: bytes, *, executable: bool) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o700 if executable else 0o600), "wb") as file:  # noqa: PTH123
        file.write(content)
