"""The published list of skips is the one that is applied."""

from __future__ import annotations

from pathlib import Path

from skips import SKIPS, as_markdown


def test_the_published_list_is_up_to_date() -> None:
    assert (Path(__file__).parent / "SKIPS.md").read_text(encoding="utf-8") == as_markdown()


def test_each_skip_says_why_and_appears_once() -> None:
    assert all(len(skip.reason.split()) > 5 for skip in SKIPS)
    assert len({skip.pattern for skip in SKIPS}) == len(SKIPS)
