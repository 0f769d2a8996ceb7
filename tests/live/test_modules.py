"""The user's modules: beside the script, in packages, in archives, on a path that changed, installed in place."""

from __future__ import annotations

import sys
import textwrap
import venv
import zipfile
from typing import TYPE_CHECKING

import pytest

from live.helpers import ROOT, Script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

MODULE = """
import threading
lock = threading.Lock()
stream = open(__file__) if __file__.endswith("side.py") and ".zip" not in __file__ else None
count = 0
class Thing:
    def __init__(self, v): self.v = v
    def __eq__(self, other): return type(other) is Thing and other.v == self.v
    __hash__ = None
class Trouble(Exception):
    def __init__(self, a, *, b):
        super().__init__(a)
        self.b = b
def bump():
    global count
    with lock:
        count += 1
    return count
def make(n): return lambda: (n, bump())
def fail(): raise Trouble(1, b=2)
"""
BODY = """
from scalepool.api import WorkerGroup
from scalepool.multiprocessing import Pool
def use(x): return side.bump() + x
def nested(): return WorkerGroup(1).submit(side.Thing, (8,)).result(120)
group = WorkerGroup(1)
def call(fn, *args): return group.submit(fn, args).result(120)
assert [call(side.bump), call(use, 10), call(side.make(3)), call(lambda: side.bump())] == [1, 12, (3, 3), 4]
assert call(lambda thing: isinstance(thing, side.Thing), side.Thing(1)) and type(call(side.Thing, 4)) is side.Thing
assert call(nested) == side.Thing(8)
for fail in (side.fail, lambda: side.fail()):
    try:
        call(fail)
    except side.Trouble as error:
        assert (error.args, error.b) == ((1,), 2)
    else:
        raise AssertionError
with Pool(2, side.bump) as pool:
    assert pool.map(side.Thing, [1, 2]) == [side.Thing(1), side.Thing(2)]
print("end", side.count)
"""
CHANGES = {
    "stays": "import side",
    "cwd_changes": "import side, os; os.chdir('/')",
    "entry_leaves": "import sys; sys.path.insert(0, folder); import side; sys.path.remove(folder)",
    "relative_entry": "import sys, os; sys.path.insert(0, '.'); import side; os.chdir('/')",
    "entry_comes_late": "import sys; from scalepool.api import WorkerGroup; first = WorkerGroup(1)\n"
    "first.submit(abs, (1,)).result(120); sys.path.append(folder); import side",
}


def run(folder: Path, arguments: list[str], stdin: str | None = None, *, environ: dict[str, str] | None = None) -> str:
    driver = Script(folder, arguments, environ=environ)
    try:
        out, err = driver.finish(stdin)
    finally:
        driver.close()
    driver.assert_nothing_left()
    assert (driver.process.returncode, err) == (0, ""), out + err
    return out


@pytest.mark.parametrize("way", ["script", "stdin", "command"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_module_next_to_the_program(tmp_path: Path, change: str, way: str) -> None:
    (tmp_path / "side.py").write_text(MODULE.replace("stream = open", "stream = None and open"))
    elsewhere = tmp_path if change in ("stays", "cwd_changes", "relative_entry") else tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    source = f"folder = {str(tmp_path)!r}\n{CHANGES[change]}\n{BODY}"
    (elsewhere / "user.py").write_text(source)
    arguments = {"script": ["user.py"], "stdin": ["-"], "command": ["-c", source]}[way]
    assert run(elsewhere, arguments, source if way == "stdin" else None) == "end 0\n"


def test_a_package_in_an_archive_that_left_the_path(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "library.zip", "w") as archive:
        archive.writestr("parcel/__init__.py", "")
        archive.writestr("parcel/side.py", MODULE)
    archive_path = str(tmp_path / "library.zip")
    head = f"import sys; sys.path.insert(0, {archive_path!r}); import parcel.side as side; sys.path.pop(0)"
    assert run(tmp_path, ["-c", f"{head}\n{BODY}"]) == "end 0\n"


def test_relative_imports_of_a_package_run_as_a_module(tmp_path: Path) -> None:
    package = tmp_path / "parcel" / "inner"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "side.py").write_text(MODULE.replace("stream = open", "stream = None and open"))
    (package.parent / "base.py").write_text("X = 5\n")
    late = "\ndef late():\n    from ..base import X\n    return X\nassert call(late) == 5\n"
    (package / "user.py").write_text(f"from . import side\nfrom .. import base\n{BODY}{late}")
    assert run(tmp_path, ["-m", "parcel.inner.user"]) == "end 0\n"


@pytest.mark.parametrize("style", ["path", "finder"])
def test_a_package_installed_in_place(tmp_path: Path, style: str) -> None:
    """What pip's editable installs leave in site-packages: a path, or a finder that maps the name to a folder."""
    source = tmp_path / "source" / "parcel"
    source.mkdir(parents=True)
    (source / "__init__.py").touch()
    (source / "side.py").write_text(MODULE.replace("stream = open", "stream = None and open"))
    environment = tmp_path / "environment"
    venv.create(environment, system_site_packages=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    if style == "path":
        (site / "__editable__.parcel.pth").write_text(f"{source.parent}\n")
    else:
        (site / "__editable___parcel_finder.py").write_text(
            textwrap.dedent(f"""
            import sys
            from importlib.util import spec_from_file_location
            class Finder:
                @classmethod
                def find_spec(cls, name, path=None, target=None):
                    if name == "parcel":
                        folder = {str(source)!r}
                        return spec_from_file_location(name, f"{{folder}}/__init__.py")
            def install():
                sys.meta_path.append(Finder)
            """)
        )
        (site / "__editable__.parcel.pth").write_text(
            "import __editable___parcel_finder; __editable___parcel_finder.install()\n"
        )
    own = [path for path in sys.path if path.endswith("site-packages")]
    head = "import sys\nassert '/environment/' in sys.executable, sys.executable\nfrom parcel import side"
    program = tmp_path / "user.py"
    program.write_text(f"{head}\n{BODY}")
    python = str(environment / "bin" / "python")
    launcher = f"os.execv({python!r}, [{python!r}, {str(program)!r}])"
    path = ":".join([str(ROOT), *own])
    assert run(tmp_path, ["-c", f"import os; os.environ['PYTHONPATH'] = {path!r}; {launcher}"]) == "end 0\n"


def test_a_reloaded_module_is_reloaded_in_workers(tmp_path: Path) -> None:
    source = """
import importlib, pathlib, sys, time
sys.dont_write_bytecode = True
path = pathlib.Path("edited.py")
def write(text):
    path.write_text(f"K = {text!r}\\ndef g(x): return K, x\\nclass Q:\\n    def m(self): return {text!r}\\n")
write("old")
import edited, joblib, scalepool
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
def everywhere(fn, *args): return {future.result(120) for future in [group.submit(fn, args) for _ in range(8)]}
def use(): return edited.g(1)
assert everywhere(edited.g, 1) == everywhere(use) == {("old", 1)}
for text in ("new", "newest"):
    write(text)
    importlib.reload(edited)
    assert everywhere(edited.g, 1) == everywhere(use) == {(text, 1)}, everywhere(use)
    parallel = joblib.Parallel(2, backend="scalepool")
    assert set(parallel(joblib.delayed(edited.g)(1) for _ in range(8))) == {(text, 1)}
    assert everywhere(edited.Q().m) == everywhere(lambda: edited.Q().m()) == {text}
print("end")
"""
    assert run(tmp_path, ["-c", source], environ={"PYTHONDONTWRITEBYTECODE": "1"}) == "end\n"
