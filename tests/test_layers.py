"""The layer law holds for the package, and each rule of it still bites."""

from __future__ import annotations

from pathlib import Path

import layers
import pytest

import scalepool

#: Constructors with more than six parameters, each with the reason that the budget gives way.
LONG_CONSTRUCTORS: dict[str, str] = {
    "scalepool.concurrent.futures.process.ProcessPoolExecutor": "the standard library's five, and our extras",
    "scalepool.multiprocessing.lifecycle.Lifecycle": "the standard library's five, and our extras",
    "scalepool._runtime.group.WorkerGroup": "one keyword for each option of the pools and executors that it serves",
    "scalepool.joblib_backend.ScalepoolBackend": "what joblib hands over, and our keywords",
}

PACKAGE = layers.load(Path(scalepool.__file__).parent)


@pytest.mark.parametrize("rule", layers.CHECKS)
def test_the_package_obeys(rule: str) -> None:
    assert list(layers.CHECKS[rule](PACKAGE)) == []


def test_the_package_keeps_to_its_sizes() -> None:
    assert list(layers.check_sizes(PACKAGE, excused=frozenset(LONG_CONSTRUCTORS))) == []


def test_every_excuse_is_still_needed() -> None:
    complaints = "\n".join(layers.check_sizes(PACKAGE))
    assert [name for name in LONG_CONSTRUCTORS if f" {name.rpartition('.')[2]}: constructor" not in complaints] == []


def test_the_package_was_found() -> None:
    assert {"scalepool", "scalepool.errors", "scalepool.config", "scalepool._core"} <= set(PACKAGE)


def package(**sources: str) -> layers.Tree:
    """Make a package of modules given by name below the root, with ``__`` for the dot (and a leading ``_`` kept)."""
    tree = {"scalepool": layers.Module("scalepool", "", is_package=True)}
    for key, source in sources.items():
        name = "scalepool." + key.replace("__", ".")
        tree[name] = layers.Module(name, source)
    return tree


@pytest.mark.parametrize(
    ("rule", "sources", "complaint"),
    [
        ("direction", {"errors": "import scalepool.api", "api": ""}, "scalepool.errors:1 imports scalepool.api"),
        (
            "direction",
            {"_wire__a": "from scalepool import api", "api": ""},
            "imports scalepool.api, which is not below",
        ),
        ("direction", {"_core__a": "from scalepool import init"}, "imports scalepool, which is not below"),
        ("direction", {"_net__a": "import scalepool._store.b", "_store__b": ""}, "imports scalepool._store.b"),
        ("direction", {"_net__a": "def f():\n from scalepool._core.b import x", "_core__b": ""}, "must not know _core"),
        (
            "direction",
            {"concurrent__a": "from scalepool.multiprocessing.b import x", "multiprocessing__b": ""},
            "below",
        ),
        ("direction", {"helpers": ""}, "no layer lists 'helpers'"),
        ("cycles", {"_core__a": "from scalepool._core import b", "_core__b": "import scalepool._core.a"}, "cycle: "),
        ("cycles", {"_core__a": "from . import b", "_core__b": "class C:\n from .a import x"}, "cycle: "),
        ("purity", {"_core__a": "import time"}, "imports time, but _core is pure"),
        ("purity", {"_wire__a": "from os.path import join"}, "imports os.path, but _wire is pure"),
        ("monopolies", {"_runtime__a": "import zmq.utils"}, "zmq belongs to ('_net',)"),
        ("monopolies", {"_runtime__a": "import os\nos.fork()"}, "uses os.fork: starting processes belongs to"),
        ("monopolies", {"api": "from os import posix_spawn"}, "uses os.posix_spawn"),
        ("monopolies", {"api": "from subprocess import run"}, "imports subprocess"),
        ("monopolies", {"_proc__a": "import mmap"}, "shared memory belongs to ('_store',)"),
        ("monopolies", {"_proc__a": "from multiprocessing import shared_memory"}, "multiprocessing.shared_memory"),
        ("monopolies", {"_core__a": "import pickle"}, "imports pickle"),
        ("monopolies", {"_wire__codec": "import cloudpickle"}, "imports cloudpickle"),
    ],
)
def test_a_breach_is_found(rule: str, sources: dict[str, str], complaint: str) -> None:
    complaints = list(layers.CHECKS[rule](package(**sources)))
    assert len(complaints) == 1
    assert complaint in complaints[0]


@pytest.mark.parametrize(
    "sources",
    [
        {
            "_core__a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import time\n import scalepool.api",
            "api": "",
        },
        {"api": "import scalepool._runtime.a", "_runtime__a": "import os, time, threading\nos.getpid()"},
        {
            "_net__a": "import zmq",
            "_store__a": "import mmap, os\nos.memfd_create('x')",
            "_proc__a": "import subprocess",
        },
        {"_wire__payload": "import pickle", "_wire__pickling__a": "import cloudpickle"},
        {"_core__a": "import scalepool._core.b", "_core__b": "def f():\n import scalepool._core.a"},
        {"_core__a": "from scalepool._core.b import x", "_core__b": "from scalepool.errors import y", "errors": ""},
        {
            "multiprocessing__a": "from multiprocessing import TimeoutError\nfrom scalepool._shims.b import c",
            "_shims__b": "",
        },
    ],
)
def test_what_is_allowed_passes(sources: dict[str, str]) -> None:
    tree = package(**sources)
    assert [complaint for check in layers.CHECKS.values() for complaint in check(tree)] == []


def body(lines: int) -> str:
    return "\n".join("    x = 1" for _ in range(lines))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("\n" * 401, "401 lines"),
        (f"def f():\n{body(40)}", "f: 41 code lines"),
        ("class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(21)), "C: 21 methods"),
        ("class C:\n    def __init__(self, a, b, c, d, *, e, f, **g): ...", "C: constructor with 7 parameters"),
    ],
)
def test_too_large_is_found(source: str, complaint: str) -> None:
    complaints = list(layers.check_sizes(package(_core__a=source)))
    assert len(complaints) == 1
    assert complaint in complaints[0]


def test_docstrings_comments_and_blank_lines_are_no_code() -> None:
    source = f'def f():\n    """Doc.\n\n    More.\n    """\n    # why\n\n{body(39)}'
    assert list(layers.check_sizes(package(_core__a=source))) == []


def test_an_excused_constructor_passes() -> None:
    tree = package(_core__a="class C:\n    def __init__(self, a, b, c, d, e, f, g): ...")
    assert list(layers.check_sizes(tree, excused=frozenset({"scalepool._core.a.C"}))) == []
