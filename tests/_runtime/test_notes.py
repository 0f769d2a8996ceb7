from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._runtime.notes import Notes

if TYPE_CHECKING:
    import pytest


def test_a_note_that_repeats_itself_is_shown_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()

    assert [notes.show("too few files", now_s) for now_s in (1.0, 2.0, 60.9, 61.0, 62.0)] == [
        True, False, False, True, False,
    ]  # fmt: skip
    assert notes.show("another", 2.0)
    assert capsys.readouterr().err == "scalepool: too few files\n" * 2 + "scalepool: another\n"


def test_it_remembers_a_bounded_number() -> None:
    notes = Notes()
    for number in range(1000):
        assert notes.show(f"note {number}", 1.0)
    assert not notes.show("note 999", 2.0)
    assert notes.show("note 0", 2.0)
