"""What both ends of a link remember, and forget alike."""

from __future__ import annotations

import pytest

from scalepool._core.functions import KEEP_FUNCTIONS, FunctionRecord, Recent


def test_the_entry_used_longest_ago_is_forgotten() -> None:
    recent: Recent[str] = Recent()
    for key in range(KEEP_FUNCTIONS):
        recent.add(key, str(key))
    assert recent.use(0) == "0"
    recent.add(KEEP_FUNCTIONS, "new")
    assert len(recent) == KEEP_FUNCTIONS
    assert recent.use(0) == "0"
    assert recent.use(1) is None


def test_a_look_leaves_the_order_as_it_is() -> None:
    recent: Recent[str] = Recent()
    for key in range(KEEP_FUNCTIONS):
        recent.add(key, str(key))
    assert recent.peek(0) == "0"
    recent.add(KEEP_FUNCTIONS, "new")
    assert recent.peek(0) is None


def test_adding_again_replaces_and_renews() -> None:
    recent: Recent[str] = Recent()
    recent.add(1, "old")
    recent.add(1, "new")
    assert (recent.use(1), len(recent)) == ("new", 1)


def test_the_mean_follows_what_is_measured() -> None:
    function = FunctionRecord(7, b"f")
    assert function.mean_s is None
    function.note_durations(1.0, 1)
    assert function.mean_s == 1.0
    function.note_durations(2.0, 1)
    assert function.mean_s == pytest.approx(1.2)
