"""A host's shelf with a program that answers at once: what is asked, what is kept, what comes to lie where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scalepool._runtime.travel.shelf import CodeShelf
from scalepool._wire import bundles
from scalepool._wire.bundles import Answer, Entry, Question
from scalepool.errors import ProtocolError

ROOT = "/nowhere"


class Program:
    """Has modules as texts, and counts what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.shelf = CodeShelf(str(folder), self.take)
        self.asked: list[tuple[int, Question]] = []
        self.files = {"0/m.py": b"x = 1\n"}
        self.root = ROOT
        self.told: list[dict[str, Any]] = []

    def take(self, request: int, question: bytes) -> None:
        self.asked.append((request, Question.decode(question)))

    def answer_all(self, now_s: float = 0.0) -> None:
        while self.asked:
            request, question = self.asked.pop(0)
            self.shelf.arrived(request, self.answer(question), now_s)

    def answer(self, question: Question) -> bytes:
        entries = [Entry(path, len(data), bundles.content_digest(data)) for path, data in self.files.items()]
        answer = Answer(bundles.HERE, "", [self.root], entries)
        if not question.digest:
            return answer.encode()
        if question.digest != answer.digest:
            return b""
        return bundles.part_of(bundles.pack(list(self.files.values())), question.offset)

    def seek(self, name: str = "m", reloads: int = 0, is_edited: bool = False, now_s: float = 0.0) -> None:
        self.shelf.seek(
            json.dumps([name, reloads, is_edited]).encode(), lambda data: self.told.append(json.loads(data)), now_s
        )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "code")


def test_code_is_brought_once_for_all_who_want_it(program: Program) -> None:
    program.seek()
    program.seek()
    assert len(program.asked) == 1
    program.answer_all()
    assert [told["verdict"] for told in program.told] == [bundles.HERE] * 2
    (root,) = program.told[0]["roots"]
    assert Path(root, "m.py").read_bytes() == b"x = 1\n"
    assert Path(root).stat().st_mode & 0o077 == 0
    program.seek()
    assert not program.asked
    program.seek(now_s=5.0)  # it may have changed: asked for again, and not brought again
    ((_, question),) = program.asked
    assert not question.digest
    program.answer_all(5.0)
    assert program.told[-1]["roots"] == [root]


def test_what_was_edited_is_asked_for_at_once(program: Program) -> None:
    program.seek()
    program.answer_all()
    before = program.told[-1]["roots"]
    program.files["0/m.py"] = b"x = 2\n"
    program.seek()
    assert program.told[-1]["roots"] == before  # a moment later is early enough
    program.seek(reloads=1)
    program.answer_all()
    after = program.told[-1]["roots"]
    assert after != before
    assert Path(after[0], "m.py").read_bytes() == b"x = 2\n"
    program.files["0/m.py"] = b"x = 3\n"
    program.seek(reloads=1, is_edited=True)
    assert program.asked[0][1].fresh
    program.answer_all()
    assert program.told[-1]["roots"] not in (before, after)


def test_who_wants_a_later_state_does_not_get_an_answer_that_is_on_its_way(program: Program) -> None:
    program.seek()
    program.seek(reloads=1)
    assert len(program.asked) == 2


def test_what_lies_there_already_is_used_there(program: Program, tmp_path: Path) -> None:
    program.root = str(tmp_path)
    (tmp_path / "m.py").write_bytes(b"x = 1\n")
    program.seek()
    program.answer_all()
    assert program.told[-1]["roots"] == [str(tmp_path)]
    assert not (tmp_path / "code").exists()
    (tmp_path / "m.py").write_bytes(b"x = 0\n")  # another checkout
    program.files["0/m.py"] = b"x = 9\n"
    program.seek(now_s=9.0)
    program.answer_all()
    assert program.told[-1]["roots"] != [str(tmp_path)]


def test_a_bundle_that_changes_while_it_is_brought_is_asked_for_again(program: Program) -> None:
    program.seek()
    request, question = program.asked.pop()
    program.shelf.arrived(request, program.answer(question), 0.0)
    program.files["0/m.py"] = b"x = 2\n"
    program.answer_all()
    (root,) = program.told[-1]["roots"]
    assert Path(root, "m.py").read_bytes() == b"x = 2\n"


def test_one_that_never_stands_still_is_given_up(program: Program) -> None:
    program.seek()
    for number in range(100):
        if not program.asked:
            break
        request, question = program.asked.pop()
        program.files["0/m.py"] = b"%d" % number
        program.shelf.arrived(request, program.answer(question), 0.0)
    assert program.told[-1]["verdict"] == bundles.REFUSED


def test_a_damaged_answer_is_the_reason(program: Program) -> None:
    program.seek()
    program.shelf.arrived(program.asked[0][0], b"noise", 0.0)
    assert program.told[-1]["verdict"] == bundles.REFUSED
    assert "cannot be used here" in program.told[-1]["reason"]


def test_a_file_that_would_lie_elsewhere_is_refused(program: Program, tmp_path: Path) -> None:
    program.files = {"0/../../../m.py": b"x"}
    program.seek()
    program.answer_all()
    assert program.told[-1]["verdict"] == bundles.REFUSED
    assert not list(tmp_path.rglob("*.py"))


def test_a_program_that_does_not_answer_is_asked_again_and_given_up(program: Program) -> None:
    program.seek()
    program.shelf.look(5.0)
    assert len(program.asked) == 1
    program.shelf.look(11.0)
    program.shelf.look(12.0)
    assert [request for request, _ in program.asked] == [1, 1]
    program.shelf.look(bundles.GIVE_UP_S)
    assert "has not answered" in program.told[-1]["reason"]
    program.answer_all()
    assert len(program.told) == 1


def test_what_is_installed_is_asked_for_once_and_what_is_missing_again(program: Program) -> None:
    for verdict, again in ((bundles.INSTALLED, 0), (bundles.MISSING, 1)):
        program.seek(verdict)
        request, _ = program.asked.pop()
        program.shelf.arrived(request, Answer(verdict, "why").encode(), 0.0)
        assert program.told[-1] == {"verdict": verdict, "reason": "why"}
        program.seek(verdict, now_s=3.0)
        assert len(program.asked) == again


@pytest.mark.parametrize("noise", [b"", b"x", b"[1, 2, 3]", b'["m", "1", 0]', b'["m"]'])
def test_noise_of_a_worker_is_refused(program: Program, noise: bytes) -> None:
    with pytest.raises(ProtocolError):
        program.shelf.seek(noise, program.told.append, 0.0)  # type: ignore[arg-type]
