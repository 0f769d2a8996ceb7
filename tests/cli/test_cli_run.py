"""``scalepool run``: a script runs as ``python`` would run it, on our pools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

SCRIPT = """
import os, sys
import helper
from multiprocessing import Pool

def square(n):
    return helper.square(n)

if __name__ == "__main__":
    with Pool(2) as pool:
        print(type(pool).__module__, pool.map(square, range(4)))
    print(sys.argv[1:], os.path.basename(sys.argv[0]), os.path.basename(__file__), __spec__ and __spec__.name)
"""
POOL = "scalepool.multiprocessing.pool [0, 1, 4, 9]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    (folder / "__main__.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("def square(n):\n    return n * n\n")
    return folder


def scalepool_run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "scalepool", "run", *map(str, arguments)]
    path = {"PYTHONPATH": os.pathsep.join(["", *sys.path]).lstrip(os.pathsep)}
    return subprocess.run(
        program, capture_output=True, text=True, timeout=100, check=False, cwd=cwd, env={**os.environ, **path}
    )


def test_an_unmodified_script_runs_on_our_pool(folder: Path, tmp_path: Path) -> None:
    found = scalepool_run(folder / "script.py", "-x", "--help", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [POOL, "['-x', '--help'] script.py script.py None"]


def test_errors_of_tasks_are_what_they_are_without_us(tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(
        "from multiprocessing import Pool\n"
        "def divide(n): return 1 // n\n"
        "with Pool(1) as pool:\n"
        "    try:\n        pool.map(divide, [1, 0])\n"
        "    except ZeroDivisionError as error:\n"
        "        print(error, type(error.__cause__).__name__, 'divide(n)' in str(error.__cause__))\n"
    )
    found = scalepool_run(script)
    assert (found.stdout, found.stderr) == ("integer division or modulo by zero RemoteTraceback True\n", "")


def test_an_address_that_is_none_is_refused(folder: Path) -> None:
    found = scalepool_run("--address", "tcp://nowhere", folder / "script.py")
    assert found.returncode == 1
    assert "tcp://host:port" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("form", ["folder", "zip", "module", "package"])
def test_whatever_python_can_run_can_be_run(folder: Path, tmp_path: Path, form: str) -> None:
    what: list[str | Path] = [folder]
    cwd = folder
    shown = "['-x'] __main__.py __main__.py __main__"
    if form == "zip":
        what = [tmp_path / "app.pyz"]
        zipapp.create_archive(folder, what[0])
    elif form == "module":
        what, shown = ["-m", "script"], "['-x'] script.py script.py script"
    elif form == "package":
        (folder / "__main__.py").write_text(SCRIPT.replace("import helper", "from program import helper"))
        what, cwd, shown = ["-m", "program"], tmp_path, "['-x'] __main__.py __main__.py program.__main__"
    found = scalepool_run(*what, "-x", cwd=cwd)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [POOL, shown]


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("import sys; sys.exit('sorry')", 1, "sorry\n"),
        ("raise SystemExit", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
    ],
)
def test_the_exit_code_is_the_scripts(tmp_path: Path, line: str, code: int, error: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import atexit\natexit.register(print, 'bye')\n{line}\n")
    found = scalepool_run(script)
    assert (found.returncode, found.stdout) == (code, "bye\n")
    plain = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert found.stderr == plain.stderr
    assert found.stderr.endswith(error)


def test_a_script_that_is_no_python_fails_as_in_python(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("this is not python\n")
    found = scalepool_run(script)
    plain = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (plain.returncode, plain.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which script to run"),
        (["/nonexistent/script.py"], "cannot read the script '/nonexistent/script.py': No such file"),
        (["-m", "no_such_module_anywhere"], "No module named no_such_module_anywhere"),
        (["-m", "json"], "No module named json"),
    ],
)
def test_what_cannot_be_run_is_named(arguments: list[str], message: str) -> None:
    found = scalepool_run(*arguments)
    assert found.returncode == 2
    assert message in found.stderr


def test_a_folder_without_main_is_named(tmp_path: Path) -> None:
    found = scalepool_run(tmp_path)
    assert found.returncode == 2
    assert "__main__" in found.stderr


def test_ctrl_c_ends_the_script_with_its_own_stack_only(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from multiprocessing import Pool\nimport time\n"
        "with Pool(2) as pool:\n    print(*pool.map(abs, [1]), flush=True)\n    pool.map(time.sleep, [600, 600])\n"
    )
    program = [sys.executable, "-m", "scalepool", "run", str(script)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "1\n"
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGINT
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert "/cli/" not in error
    assert error.count("Traceback") == 1
