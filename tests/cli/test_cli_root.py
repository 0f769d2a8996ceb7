from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import scalepool
from scalepool.cli import main
from scalepool.cli.root import VERBS

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert scalepool.__version__ in capsys.readouterr().out


def test_a_programs_own_handler_is_there_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_verb_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["brew"]) == 2
    assert "No such command 'brew'" in capsys.readouterr().err


@pytest.mark.parametrize("absent", [("click",), ("rich",), ("click", "rich")])
def test_without_its_libraries_it_says_how_to_get_them(
    absent: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec

    def fake(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in absent else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", fake)

    assert main(["bench", "--list"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (f"scalepool: the command line needs {' and '.join(absent)}: pip install 'scalepool[cli]'\n")


def test_the_package_does_not_load_the_command_line() -> None:
    code = (
        "import sys, scalepool, scalepool.api, scalepool.multiprocessing\n"
        "names = ['click', 'rich', 'matplotlib', 'scalepool.cli', 'scalepool.bench']\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "[]\n"


def test_the_package_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scalepool", "bench", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Usage: scalepool bench")
