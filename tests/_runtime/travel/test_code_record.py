"""Code that was sent ahead: what of it is wanted, and how it is handed out when its program is gone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from scalepool._runtime.travel.record import CodeRecord, OwnCode
from scalepool._wire.bundles import HERE, MISSING, Answer, Question, add_part, unpack
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnCode:
    """A program with one module of its own."""
    (tmp_path / "kit_of_mine.py").write_text("ANSWER = 42\n" + "#" * 100)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(sys.modules)
    __import__("kit_of_mine")
    monkeypatch.setattr(
        sys,
        "modules",
        {
            **{k: v for k, v in before.items() if k in ("sys", "json", "scalepool")},
            "kit_of_mine": sys.modules.pop("kit_of_mine"),
        },
    )
    return OwnCode(1 << 20, pytest.fail)


def ask(record: CodeRecord, question: Question) -> bytes:
    record.ask((1, 2), question.encode())
    asker, answer = record.answers.popleft()
    assert asker == (1, 2)
    return answer


def test_what_a_program_has_imported_is_handed_out_as_it_would(own: OwnCode) -> None:
    assert list(own.digests) == ["kit_of_mine"]  # not what is installed, nor of the standard library
    woken: list[int] = []
    record = CodeRecord(lambda: woken.append(1))
    assert record.missing(own.digests) == ["kit_of_mine"]
    record.add("kit_of_mine", *own.bundle("kit_of_mine"))
    assert record.missing(own.digests) == []
    answer = Answer.decode(ask(record, Question("kit_of_mine", "any")))
    assert answer.verdict == HERE
    assert answer.digest == own.digests["kit_of_mine"]
    body, is_all = add_part(b"", ask(record, Question("kit_of_mine", "any", 0, answer.digest, 0)))
    assert is_all
    ((entry, content),) = unpack(answer.entries, body)
    assert entry.path.endswith("kit_of_mine.py")
    assert content.startswith(b"ANSWER = 42")
    assert len(woken) == 2


def test_what_was_not_sent_is_missing_and_says_why() -> None:
    record = CodeRecord(bool)
    answer = Answer.decode(ask(record, Question("other", "any")))
    assert answer.verdict == MISSING
    assert "import it before" in answer.reason
    with pytest.raises(ProtocolError, match="gone"):
        add_part(b"", ask(record, Question("other", "any", 0, "digest", 0)))
    record.ask((1, 2), b"nonsense")
    assert not record.answers


def test_another_content_takes_the_place_of_the_first(own: OwnCode) -> None:
    record = CodeRecord(bool)
    answer, body = own.bundle("kit_of_mine")
    record.add("kit_of_mine", answer, body)
    assert record.missing({"kit_of_mine": "new"}) == ["kit_of_mine"]
    empty = Answer(HERE, "", ["/x"], [])
    record.add("kit_of_mine", empty.encode(), b"")
    assert record.missing({"kit_of_mine": empty.digest}) == []
    with pytest.raises(ProtocolError):
        record.add("kit_of_mine", b"nonsense", b"")
