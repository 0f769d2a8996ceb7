from __future__ import annotations

from pathlib import Path

import pytest

from scalepool._proc.outside import Outcome, run_program, start_detached


def test_a_program_is_fed_and_heard() -> None:
    done = run_program(["sh", "-c", "cat; echo no >&2; exit 3"], feed=b"fed", timeout_s=60)
    assert done == Outcome(3, "fed", "no\n")


def test_a_file_is_fed(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo from a file")
    assert run_program(["sh"], feed=tmp_path / "script", timeout_s=60).out == "from a file\n"


def test_without_anything_to_read_a_program_does_not_wait_for_a_user() -> None:
    assert run_program(["cat"], timeout_s=60) == Outcome(0, "", "")


def test_what_cannot_be_run_is_an_outcome(tmp_path: Path) -> None:
    done = run_program([str(tmp_path / "none")], timeout_s=60)
    assert done.code is None
    assert done.words == f"{tmp_path / 'none'} cannot be run: No such file or directory"


def test_one_that_takes_too_long_is_ended_and_what_it_said_is_kept() -> None:
    done = run_program(["sh", "-c", "echo almost >&2; exec sleep 600"], timeout_s=0.5)
    assert done.code is None
    assert done.words == "almost; sh did not end within 0.5 seconds"


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ("fine\n", "", "fine"),
        ("fine\n", " first \n\nsecond\n", "first; second"),
        ("", "".join(f"{number}\n" for number in range(9)), "3; 4; 5; 6; 7; 8"),
        ("", "", ""),
    ],
)
def test_words_are_the_last_lines(out: str, err: str, words: str) -> None:
    assert Outcome(1, out, err).words == words


def test_a_detached_program_has_a_session_of_its_own_and_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    process = start_detached(["sh", "-c", "cut -d' ' -f6 /proc/$$/stat; echo said >&2; read x"], log)
    assert process.wait(60) == 1  # there is nothing to read
    assert log.read_text() == f"before\n{process.pid}\nsaid\n"
