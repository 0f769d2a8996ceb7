"""The published list of skips is the one that is applied."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import is_shipped, source_path
from skips import CHANGES, SKIPS, Change, as_markdown


def test_the_published_list_is_up_to_date() -> None:
    assert (Path(__file__).parent / "SKIPS.md").read_text(encoding="utf-8") == as_markdown()


def test_each_skip_says_why_and_appears_once() -> None:
    assert all(len(skip.reason.split()) > 5 or skip.reason == "The same." for skip in SKIPS)
    assert len({skip.pattern for skip in SKIPS}) == len(SKIPS)


@pytest.mark.parametrize("entry", CHANGES, ids=lambda entry: entry.old.strip())
def test_each_change_still_finds_its_line(entry: Change) -> None:
    assert entry.old.count("\n") == entry.new.count("\n")
    parts = [entry.module]
    if entry.module == "test.test_concurrent_futures":  # a package since 3.12
        parts += [f"{entry.module}.test_{part}" for part in ("process_pool", "init", "shutdown", "deadlock")]
    sources = [source_path(part).read_text(encoding="utf-8") for part in parts if is_shipped(part)]
    if not sources:
        pytest.skip(f"this interpreter ships no {entry.module}")
    assert any(text in source for source in sources for text in (entry.old, *entry.spared))
