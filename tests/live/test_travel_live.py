"""Programs whose code the hosts do not have: their folder is hidden from the agents and all that these start."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live.clusters import LONG_S, Cluster, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

_HIDE = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']


def _can_hide(folder: Path) -> bool:
    try:
        done = subprocess.run([*_HIDE, str(folder), "true"], capture_output=True, timeout=LONG_S, check=False)
    except OSError:
        return False
    return done.returncode == 0


class Hosts(Cluster):
    """Two hosts that see an empty folder where the programs are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.project = folder / "project"
        self.project.mkdir()
        for name in ("one", "two"):
            self.prefixes[name] = [*_HIDE, str(self.project)]
            self.join(name, 1)

    def write(self, **files: str) -> None:
        """Write modules of the project; two underscores stand for a slash, where the rest is no such name."""
        for name, text in files.items():
            path = self.project / (name.replace("_in_", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def run(self, script: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the project, unmodified, from a folder that has nothing to do with it."""
        own = {**self.environ("user"), "PYTHONDONTWRITEBYTECODE": "1", **environ}
        command = [sys.executable, "-m", "scalepool", "run", *options, str(self.project / script)]
        return subprocess.run(
            command, env=own, cwd=self.folder / "user", text=True, capture_output=True, timeout=LONG_S, check=False
        )

    def leftovers(self) -> list[Path]:
        return [path for name in ("one", "two") for path in (self.folder / name).glob("scalepool-*")]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("travel")
    if not _can_hide(folder):
        pytest.skip("unshare -m, with which hosts are made that cannot see a folder, is not allowed here")
    hosts = Hosts(folder)
    yield hosts
    hosts.close()


def test_a_script_with_modules_and_a_package_runs_unchanged(hosts: Hosts) -> None:
    hosts.write(
        siblings="""
            def twice(x):
                return 2 * x

            class Box:
                def __init__(self, x):
                    self.x = x
        """,
        relatives="""
            import siblings

            def thrice(x):
                return siblings.twice(x) + x

            def prepare(x):
                siblings.prepared = x
        """,
        kit_in___init__="""
            from importlib.resources import files

            WORDS = files(__name__).joinpath("words.txt").read_text()
        """,
        kit_in_sub_in___init__="from .deep import deep\n",
        kit_in_sub_in_deep="""
            import inspect

            from .. import WORDS

            def deep(x):
                return x, WORDS, inspect.getsource(deep).split()[0]

            def fail(x):
                raise ValueError("on purpose")
        """,
        ours="""
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            import joblib

            import relatives
            import siblings
            from kit.sub import deep
            from kit.sub.deep import fail

            def work(x):
                from kit import WORDS
                return siblings.twice(x), relatives.thrice(x), WORDS, deep(x), siblings.prepared

            def fail_here(x):
                raise KeyError("in the script")

            def unbox(box):
                return siblings.Box(box.x + 1)

            if __name__ == "__main__":
                with multiprocessing.Pool(2, initializer=relatives.prepare, initargs=(7,)) as pool:
                    print(pool.map(siblings.twice, range(4)), pool.map(work, range(2)))
                    print([box.x for box in pool.map(unbox, map(siblings.Box, range(3)))])
                with ProcessPoolExecutor(2) as executor:
                    print(list(executor.map(relatives.thrice, range(4))))
                    try:
                        executor.submit(fail, 1).result()
                    except ValueError as error:
                        print(error, 'raise ValueError("on purpose")' in str(error.__cause__))
                    try:
                        executor.submit(fail_here, 1).result()
                    except KeyError as error:
                        print(error, 'raise KeyError("in the script")' in str(error.__cause__))
                print(joblib.Parallel(n_jobs=2)(joblib.delayed(deep)(x) for x in range(3)))
        """,
    )
    (hosts.project / "kit/words.txt").write_text("some words")
    here = hosts.run("ours.py", "--address", "local")
    assert here.returncode == 0, here.stderr
    assert "on purpose True" in here.stdout
    assert "'in the script' True" in here.stdout
    there = hosts.run("ours.py", "--address", hosts.address)
    assert (there.stdout, there.stderr, there.returncode) == (here.stdout, here.stderr, 0)
    assert hosts.run("ours.py", SCALEPOOL_ADDRESS=hosts.address).stdout == here.stdout
    until(lambda: not hosts.leftovers())


def test_what_is_sent_lies_in_a_private_folder_of_the_session(hosts: Hosts) -> None:
    hosts.write(
        placed="""
            import os

            def place(_):
                return __file__, os.stat(os.path.dirname(__file__)).st_mode & 0o077
        """,
        places="""
            import os
            from multiprocessing import Pool

            import placed

            with Pool(2) as pool:
                for file, mode in set(pool.map(placed.place, range(20), chunksize=1)):
                    print(file, mode)
        """,
    )
    done = hosts.run("places.py", "--address", hosts.address)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line in lines:
        file, mode = line.split()
        assert mode == "0"
        assert Path(file).relative_to(hosts.folder).parts[0] in ("one", "two")
        assert "scalepool-" in file


def test_edited_modules_are_seen_by_hosts(hosts: Hosts) -> None:
    hosts.write(
        edited="def f(_):\n    return 1\n",
        bag_in___init__="",
        bag_in_part="from edited import f\n\ndef g(x):\n    return f(x) * 10\n",
        edits="""
            import importlib
            from multiprocessing import Pool
            from pathlib import Path

            import bag.part
            import edited

            def both(x):
                return edited.f(x), bag.part.g(x)

            def edit(path, text):
                (Path(__file__).parent / path).write_text(text)

            with Pool(2) as pool:
                print(set(pool.map(both, range(8), chunksize=1)))
                edit("edited.py", "def f(_):\\n    return 22\\n")
                importlib.reload(edited)
                print(set(pool.map(both, range(8), chunksize=1)))
                edit("bag/part.py", "from edited import f\\n\\ndef g(x):\\n    return f(x) * 100\\n")
                importlib.reload(bag.part)
                print(set(pool.map(both, range(8), chunksize=1)))
                edit("bag/later.py", "def h(_):\\n    return 3\\n")
                import bag.later
                print(set(pool.map(bag.later.h, range(8), chunksize=1)))
            with Pool(2, initializer=int) as pool:
                print(set(pool.map(both, range(8), chunksize=1)))
        """,
    )
    done = hosts.run("edits.py", "--address", hosts.address)
    assert done.stdout.splitlines() == ["{(1, 10)}", "{(22, 220)}", "{(22, 2200)}", "{3}", "{(22, 2200)}"], done.stderr


def test_an_import_that_fails_on_a_host_says_why(hosts: Hosts) -> None:
    hosts.write(
        huge_in___init__="x = 1\n",
        kept_in___init__="",
        kept_in_secret="x = 1\n",
        failing="""
            from multiprocessing import Pool

            def huge(_):
                import huge

            def secret(_):
                import kept.secret

            def nowhere(_):
                import there_is_no_such_module

            with Pool(1) as pool:
                for task in (huge, secret, nowhere):
                    try:
                        pool.map(task, [1])
                    except ImportError as error:
                        print(f"{type(error).__name__} {error.name}: {error}")
        """,
    )
    (hosts.project / "huge/data.py").write_text("#" * 5000)
    (hosts.project / ".gitignore").write_text("secret.py\n")
    subprocess.run(["git", "init", "-q", str(hosts.project)], check=True)
    done = hosts.run("failing.py", "--address", hosts.address, SCALEPOOL_CODE_LIMIT_BYTES="4KiB")
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith("ModuleNotFoundError huge: No module named 'huge' on host ")
    for part in ("4.9 KiB", "at most 4 KiB", "data.py (4.9 KiB)", "SCALEPOOL_CODE_LIMIT_BYTES"):
        assert part in lines[0]
    assert "kept/secret.py, but it was not sent, for git ignores it" in lines[1]
    assert lines[2] == "ModuleNotFoundError there_is_no_such_module: No module named 'there_is_no_such_module'"
    assert "huge" in done.stderr


def test_tasks_that_submit_tasks_take_code_along(hosts: Hosts) -> None:
    hosts.write(
        trees="""
            import scalepool

            class Leaf:
                def __init__(self, size):
                    self.size = size

            @scalepool.remote
            def count(depth):
                if not depth:
                    return Leaf(1)
                return Leaf(sum(leaf.size for leaf in scalepool.get([count.remote(depth - 1) for _ in range(2)])))
        """,
        forest="import scalepool\nimport trees\n\nprint(scalepool.get(trees.count.remote(3)).size)\n",
    )
    done = hosts.run("forest.py", "--address", hosts.address)
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr
