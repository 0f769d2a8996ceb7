"""Who came and went without a word, told from those who have a key and from those who have a wrong one."""

from __future__ import annotations

from scalepool._net.newcomers import Newcomers


def test_who_ends_without_a_key_counts_and_is_told_at_most_every_ten_seconds() -> None:
    newcomers = Newcomers()
    assert newcomers.due(0.0) is None
    for fd, address in ((5, "10.0.0.1"), (6, "10.0.0.2")):
        newcomers.accepted(fd, address)
        assert not newcomers.ended(fd), "it cannot have been one of ours"
    assert newcomers.due(0.0) == (2, "10.0.0.2")
    newcomers.accepted(5, "")
    newcomers.ended(5)
    assert newcomers.due(9.9) is None
    assert newcomers.due(10.0) == (1, "")
    assert newcomers.due(30.0) is None


def test_who_was_let_in_does_not_count_when_it_leaves() -> None:
    newcomers = Newcomers()
    newcomers.accepted(5, "10.0.0.1")
    newcomers.admitted()
    newcomers.accepted(6, "10.0.0.2")
    assert newcomers.ended(5)
    assert newcomers.due(0.0) is None
    newcomers.ended(6)
    assert newcomers.due(0.0) == (1, "10.0.0.2")


def test_wrong_keys_are_told_of_by_others() -> None:
    newcomers = Newcomers()
    newcomers.accepted(5, "10.0.0.1")
    newcomers.denied()
    assert not newcomers.ended(5)
    assert newcomers.due(0.0) is None


def test_a_connection_from_before_is_nobodys() -> None:
    newcomers = Newcomers()
    assert newcomers.ended(5), "it may have been one of ours"
    assert newcomers.due(0.0) is None
