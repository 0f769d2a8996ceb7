"""A session's start: what is loaded when, in which process; and that one which fails leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import scalepool
from live.helpers import Script, run

pytestmark = pytest.mark.live

ROOT = Path(scalepool.__file__).parent


def loaded_by(statement: str, names: list[str]) -> list[str]:
    # What the machine's site has loaded before is not ours.
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT.parent)!r})\n"
        f"before = set(sys.modules)\n{statement}\n"
        f"print([name for name in {names} if name in sys.modules and name not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return eval(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "statement", ["import scalepool", "import scalepool.api", "from scalepool.multiprocessing import Pool, cpu_count"]
)
def test_until_there_is_a_pool_next_to_nothing_is_loaded(statement: str) -> None:
    heavy = [
        "zmq", "typing", "re", "enum", "json", "socket", "subprocess", "pathlib", "logging", "dataclasses",
        "cloudpickle", "concurrent.futures", "multiprocessing", "scalepool._core.hub", "scalepool._runtime.client",
    ]  # fmt: skip

    assert loaded_by(statement, heavy) == []


def test_launching_takes_little_either() -> None:
    late = ["zmq", "typing", "re", "enum", "json", "socket", "subprocess", "pathlib", "logging"]
    source = "from scalepool._proc.launch import launch; launch().abandon()"

    assert loaded_by(source, late) == []


def test_a_pool_of_plain_functions_needs_none_of_these(tmp_path: Path) -> None:
    source = """
    import sys
    at_start = set(sys.modules)  # what an editable install has the interpreter load is not ours to avoid
    from scalepool.multiprocessing import Pool

    def double(x): return 2 * x
    def look(names): return [name for name in names if name in sys.modules]

    with Pool(2) as pool:
        assert pool.map(double, range(20)) == [2 * x for x in range(20)]
        names = ["cloudpickle", "dataclasses", "hashlib", "pathlib", "tempfile", "zmq"]
        everywhere = [name for name in names if name not in at_start]
        print(look(everywhere), pool.apply(look, (everywhere + ["scalepool._core.hub", "scalepool.engines.local"],)))
    """
    assert run(tmp_path, source) == "[] []\n"


BETWEEN_HOSTS = [
    "_core/locality", "_core/sources", "_core/transfer", "_core/switchboard", "_net/curve", "_net/tls", "_net/zeromq",
    "_runtime/bulk_client", "_runtime/bulk_server", "_runtime/cluster_driver", "_runtime/cluster_link",
    "_runtime/direct", "_runtime/porter", "_store/incoming", "_wire/cluster", "engines/cluster",
]  # fmt: skip


def test_a_session_of_one_host_loads_nothing_of_what_is_between_hosts(tmp_path: Path) -> None:
    assert [name for name in BETWEEN_HOSTS if not (ROOT / f"{name}.py").exists()] == []
    names = ["ssl", "zmq", *("scalepool." + name.replace("/", ".") for name in BETWEEN_HOSTS)]
    source = f"""
    import sys
    at_start = set(sys.modules)
    import scalepool
    from scalepool.multiprocessing import Pool

    def look(data=b""): return [name for name in {names} if name in sys.modules and name not in at_start]

    with Pool(2) as pool:
        data = scalepool.put(bytes(4_000_000))
        print(look(), pool.apply(look), scalepool.get(scalepool.remote(look).remote(data)))
    """
    assert run(tmp_path, source) == "[] [] []\n"


@pytest.mark.parametrize("flags", [["-I"], ["-S"], ["-X", "dev"], ["-OO"], ["-B", "-E"]])
def test_any_interpreter_will_do(tmp_path: Path, flags: list[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
sys.path += {sys.path!r}
sys.path.insert(0, {str(ROOT.parent)!r})
from scalepool.multiprocessing import Pool
def cube(x): return x ** 3
with Pool(2) as pool:
    print(pool.map(cube, range(4)))
""")
    running = Script(tmp_path, [*flags, str(script)])
    out, err = running.finish()

    assert (out, err) == ("[0, 1, 8, 27]\n", "")
    running.assert_nothing_left()


def test_the_package_may_be_in_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in ROOT.rglob("*.py"):
            target.write(path, path.relative_to(ROOT.parent))
    source = f"""
    import sys
    sys.path.insert(0, {str(archive)!r})
    from scalepool.multiprocessing import Pool
    import scalepool
    with Pool(2) as pool:
        print(pool.map(abs, [-1, 2]), pool.apply(lambda: __import__("scalepool").__file__) == scalepool.__file__)
        print(scalepool.__file__.startswith({str(archive)!r}))
    """
    assert run(tmp_path, source) == "[1, 2] True\nTrue\n"


def test_an_editable_install_is_found_by_workers_too(tmp_path: Path) -> None:
    """A finder that ``site`` installs in every interpreter knows where the module is; no path leads there."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "live_editable.py").write_text("def answer(x):\n    return x + 1\n")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"""
import sys, importlib.util
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "live_editable":
            return importlib.util.spec_from_file_location(name, {str(hidden / "live_editable.py")!r})
sys.meta_path.append(Finder)
""")
    source = """
    from scalepool.multiprocessing import Pool
    import live_editable
    with Pool(2) as pool:
        print(pool.map(live_editable.answer, [1, 2]))
    """
    path = f"{site}:{ROOT.parent}:{ROOT.parent / 'tests'}"

    assert run(tmp_path, source, environ={"PYTHONPATH": path}) == "[2, 3]\n"


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    source = """
    import gc, os
    from scalepool import api
    for name, value, kind in (("SCALEPOOL_TICK_S", "never", ValueError), ("TMPDIR", "/dev/null", None)):
        old = os.environ.get(name)
        os.environ[name] = value
        try:
            api.init()
        except kind or OSError as error:
            print(type(error).__name__)
        finally:
            del os.environ[name]
            if old: os.environ[name] = old
        if api.is_initialized(): api.shutdown(); print("fine")
    with open(f"/proc/self/task/{os.getpid()}/children") as file: children = file.read()
    print(repr(children), gc.isenabled())
    """
    # What TMPDIR says is no folder; then another is used, as tempfile would.
    assert run(tmp_path, source) == "ValueError\nfine\n'' True\n"


def test_numeric_libraries_are_loaded_before_the_fork(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    source = """
    import os
    import numpy
    from scalepool.multiprocessing import Pool
    def where():
        import numpy, sys
        return "numpy" in sys.modules, os.getpid()
    with Pool(2) as pool:
        loaded, pid = pool.apply(where)
        with open(f"/proc/{pid}/stat") as stat: zygote = int(stat.read().rpartition(")")[2].split()[1])
        with open(f"/proc/{zygote}/maps") as maps: print(loaded, "numpy" in maps.read())
    """
    limits = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    assert run(tmp_path, source, environ=limits) == "True True\n"
