"""Applications that are frozen into an executable: they start themselves as the process that makes their workers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live.helpers import PATIENCE_S, ROOT, Ledger, Script

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.live

HOOKS = {
    "scalepool.multiprocessing": "from scalepool.multiprocessing import Pool, freeze_support",
    "scalepool": "from scalepool.multiprocessing import Pool\nfrom scalepool import freeze_support",
    "multiprocessing": "from scalepool.multiprocessing import Pool\nfrom multiprocessing import freeze_support",
}

WORK = """
import os, sys
from scalepool.multiprocessing import Pool

class Point:
    def __init__(self, x):
        self.x = x

def square(x):
    return x * x

def note():
    with open(os.environ["LEDGER"], "a") as file:
        file.write(f"main\\n")

def run():
    note()
    with Pool(2) as pool:
        print(pool.map(square, range(5)), type(pool.apply(Point, (2,))) is Point, sys.argv[1:])
        print(pool.apply(lambda: [hasattr(sys, "frozen"), "SCALEPOOL_STARTED_BY" in os.environ, sys.argv[1:]]))

"""

FAIL = """
def call_twice():
    note()
    for _ in range(2):
        try:
            with Pool(1) as pool:
                print(pool.apply(square, (2,)))
        except Exception as error:
            print(" ".join(str(error).split()))
"""


def application(folder: Path, source: str) -> Path:
    """Return an executable file that is to its own code what a frozen application is."""
    path = folder / "app"
    head = f"#!{sys.executable}\nimport sys\nsys.frozen = True\nsys.executable = {str(path)!r}\n"
    path.write_text(head + textwrap.dedent(source))
    path.chmod(0o700)
    return path


def run(app: Path, ledger: Ledger, arguments: Sequence[str] = ()) -> tuple[str, str]:
    driver = Script(app.parent, [str(app), *arguments], environ={"LEDGER": ledger.path})
    try:
        out, err = driver.finish()
    finally:
        driver.close()
    driver.assert_nothing_left()
    return out, err


@pytest.mark.parametrize("hook", HOOKS)
def test_with_the_hook_it_works_and_its_main_program_runs_once(tmp_path: Path, ledger: Ledger, hook: str) -> None:
    app = application(tmp_path, f"{HOOKS[hook]}\n{WORK}\nif __name__ == '__main__':\n    freeze_support()\n    run()\n")
    out, err = run(app, ledger, ["an argument"])
    assert err == ""
    assert out.splitlines() == ["[0, 1, 4, 9, 16] True ['an argument']", "[True, False, ['an argument']]"]
    assert ledger.counts() == {"main": 1}


def test_without_the_hook_it_starts_itself_once_and_every_call_says_why(tmp_path: Path, ledger: Ledger) -> None:
    app = application(tmp_path, f"{WORK}{FAIL}\ncall_twice()\n")
    out, err = run(app, ledger)
    first, second = out.splitlines()
    for line in (first, second):
        assert "it ran its main program and asked for workers itself" in line
        assert "begin with scalepool.multiprocessing.freeze_support()" in line
    assert "Traceback" not in err
    assert ledger.counts() == {"main": 2}


@pytest.mark.parametrize(
    ("early", "how"),
    [
        ("import argparse; argparse.ArgumentParser().parse_args()", "ended with exit code 2"),
        ("if len(sys.argv) > 1: sys.exit()", "ended with exit code 0"),
        ("if len(sys.argv) > 1: import time; time.sleep(1000)", "did nothing else for 3 s"),
    ],
    ids=["refuses its arguments", "ends", "sits there"],
)
def test_whatever_else_it_does_instead_is_told(tmp_path: Path, ledger: Ledger, early: str, how: str) -> None:
    shorter = "import scalepool._proc.frozen\nscalepool._proc.frozen.SILENCE_S = 3"
    app = application(tmp_path, f"{WORK}{FAIL}\nnote()\n{early}\n{shorter if 'sleep' in early else ''}\ncall_twice()\n")
    out, _ = run(app, ledger)
    assert len(out.splitlines()) == 2
    assert out.count(how) == out.count("freeze_support()") == 2
    assert ledger.counts() == {"main": 3}  # twice begun, and once gone through


def test_one_that_is_started_like_that_by_hand_says_what_that_is_for(tmp_path: Path, ledger: Ledger) -> None:
    app = application(tmp_path, f"{HOOKS['scalepool']}\n{WORK}\nfreeze_support()\nrun()\n")
    out, err = run(app, ledger, ["--scalepool-zygote", "1000"])
    assert (out, err) == ("", "--scalepool-zygote is for scalepool, which starts this application with it\n")
    assert not ledger.lines()


def test_an_interpreter_of_the_users_own_choice_is_none_of_it(tmp_path: Path, ledger: Ledger) -> None:
    choose = f"import multiprocessing\nmultiprocessing.set_executable({sys.executable!r})"
    app = application(tmp_path, f"{WORK}\n{choose}\nrun()\n")
    out, err = run(app, ledger)
    assert err == ""
    assert out.splitlines() == ["[0, 1, 4, 9, 16] True []", "[False, False, []]"]
    assert ledger.counts() == {"main": 1}


def test_anywhere_else_the_hook_does_nothing(tmp_path: Path) -> None:
    source = "from scalepool.multiprocessing import freeze_support\nprint(freeze_support())"
    driver = Script(tmp_path, ["-c", source, "--scalepool-zygote", "no"])
    try:
        assert driver.finish() == ("None\n", "")
    finally:
        driver.close()
    driver.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_application_made_by_pyinstaller(tmp_path: Path, ledger: Ledger) -> None:
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")
    (tmp_path / "user_part.py").write_text("def cube(x):\n    return x ** 3\n")
    (tmp_path / "app.py").write_text(
        f"import user_part, multiprocessing\n{WORK}\n"
        "if __name__ == '__main__':\n    multiprocessing.freeze_support()\n    run()\n"
        "    with Pool(2) as pool:\n        print(pool.map(user_part.cube, range(3)))\n"
    )
    unneeded = [
        "numpy",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "IPython",
        "PIL",
        "tkinter",
        "pytest",
        "setuptools",
    ]
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--onedir", "--noconfirm", "--log-level", "ERROR"),
            *("--additional-hooks-dir", str(ROOT / "scalepool" / "__pyinstaller"), "--paths", str(ROOT)),
            *(word for name in unneeded for word in ("--exclude-module", name)),
            "app.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")},
        check=True,
    )
    driver = Script(tmp_path, [], environ={"LEDGER": ledger.path}, program=str(tmp_path / "dist" / "app" / "app"))
    try:
        out, err = driver.process.communicate(timeout=PATIENCE_S)
    finally:
        driver.close()
    assert err == ""
    assert out.splitlines() == ["[0, 1, 4, 9, 16] True []", "[True, False, []]", "[0, 1, 8]"]
    assert ledger.counts() == {"main": 1}
    driver.assert_nothing_left()
