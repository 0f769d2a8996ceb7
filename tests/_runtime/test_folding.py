from __future__ import annotations

from scalepool._runtime.folding import REMEMBERED, SHOWN_FIRST, Folder


def test_different_lines_are_shown_as_they_are() -> None:
    folder = Folder()
    text = "".join(f"line {number}\n" for number in range(2000))

    assert folder.take(text, 0.0) == text
    assert folder.due_at is None


def test_a_flood_becomes_a_few_lines_and_a_count() -> None:
    folder = Folder()
    shown = "".join(folder.take("same\n", number * 0.001) for number in range(100))

    assert shown == "same\n" * SHOWN_FIRST
    assert folder.due_at == 1.0
    assert folder.flush(1.0) == f"... repeated {100 - SHOWN_FIRST} times: same\n"
    assert folder.due_at is None


def test_a_flood_that_goes_on_is_counted_once_a_second() -> None:
    folder = Folder()
    shown = [folder.take("same\n", number * 0.01) for number in range(1000)]
    lines = "".join(shown).splitlines()

    assert lines[:SHOWN_FIRST] == ["same"] * SHOWN_FIRST
    assert 8 <= len(lines) - SHOWN_FIRST <= 10
    folded = sum(int(line.split()[2]) for line in lines[SHOWN_FIRST:])
    rest = folder.flush(11.0)
    assert folded + int(rest.split()[2]) + SHOWN_FIRST == 1000
    assert folder.flush(12.5) == ""
    assert folder.take("same\n", 13.0) == "same\n"


def test_slow_repetitions_are_no_flood() -> None:
    folder = Folder()

    assert "".join(folder.take("tick\n", float(second)) for second in range(10)) == "tick\n" * 10


def test_lines_of_several_workers_that_take_turns() -> None:
    folder = Folder()
    shown = "".join(folder.take(f"{'ab'[number % 2]}\n", 0.0) for number in range(20))

    assert shown == "a\nb\n" * SHOWN_FIRST
    assert sorted(folder.flush(2.0).splitlines()) == ["... repeated 7 times: a", "... repeated 7 times: b"]


def test_parts_of_lines_and_empty_ones_are_left_alone() -> None:
    folder = Folder()
    for text in ("part", " and ", "rest\n", "\n", "\n", "\n", "\n", "\n", "\r10%", "\r20%", "\x0b\u2028|\n"):
        for _ in range(3):
            assert folder.take(text, 0.0) == text


def test_a_count_does_not_break_into_a_line() -> None:
    folder = Folder()
    folder.take("same\n" * 10, 0.0)
    assert folder.take("begun", 0.5) == "begun"
    assert folder.flush(1.5) == ""
    assert folder.due_at == 2.5
    assert folder.take(", ended\n", 2.5) == ", ended\n"
    assert folder.flush(2.5) == "... repeated 7 times: same\n"


def test_nothing_is_forgotten_at_the_end_or_when_there_are_too_many() -> None:
    folder = Folder()
    folder.take("first\n" * 5 + "second\n" * 5, 0.0)
    many = "".join(f"{number}\n" for number in range(REMEMBERED - 1))

    assert folder.take(many, 0.1) == "... repeated 2 times: first\n" + many
    assert folder.flush(0.2, everything=True) == "... repeated 2 times: second\n"
