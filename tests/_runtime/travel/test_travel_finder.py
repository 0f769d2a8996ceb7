"""Imports of a worker, with a shelf that the test fills."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._runtime.travel.finder import CodeFinder, LastFinder, MainSource
from scalepool._wire import bundles

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shelf:
    """What was brought, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, bool]] = []

    def ask(self, name: str, reloads: int, is_edited: bool) -> dict[str, Any]:
        self.asked.append((name, is_edited))
        return self.found.get(name, {"verdict": bundles.MISSING, "reason": ""})

    def bring(self, name: str, version: str, *, namespace: bool = False, **files: str) -> None:
        root = self.folder / version
        for name_in, text in files.items():
            target = root / (name_in.replace("__in__", "/") + ".py")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self.found[name] = {"verdict": bundles.HERE, "roots": [str(root)], "namespace": namespace, "left_out": {}}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "code")
    first = CodeFinder(shelf.ask)
    at = sys.meta_path.index(PathFinder)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path[:at], first, *sys.meta_path[at:], LastFinder(first)])
    yield shelf
    for name in set(sys.modules) - before:
        if name.startswith("farp"):
            del sys.modules[name]


def test_modules_packages_and_their_parts_are_found(shelf: Shelf) -> None:
    shelf.bring("farpm", "1", farpm="x = 1\n")
    shelf.bring(
        "farpp",
        "2",
        farpp__in____init__="from .sub import y\n",
        farpp__in__sub="from . import z\ny = 2\n",
        farpp__in__z="",
    )
    (shelf.folder / "2/farpp/words.txt").write_text("some words")
    assert importlib.import_module("farpm").x == 1
    module = importlib.import_module("farpp")
    assert module.y == 2
    assert importlib.resources.files("farpp").joinpath("words.txt").read_text() == "some words"
    assert shelf.asked == [("farpm", False), ("farpp", False)]


def test_the_program_comes_before_what_lies_on_this_host(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "farpsame.py").write_text("x = 'of this host'\n")
    (tmp_path / "farpown.py").write_text("x = 'of this host'\n")
    monkeypatch.syspath_prepend(tmp_path)
    shelf.bring("farpsame", "1", farpsame="x = 'of the program'\n")
    assert importlib.import_module("farpsame").x == "of the program"
    assert importlib.import_module("farpown").x == "of this host"


def test_the_standard_library_is_not_asked_for(shelf: Shelf) -> None:
    for name in ("json", "sys", "__main__", "scalepool"):
        for finder in sys.meta_path:
            if isinstance(finder, CodeFinder):
                assert finder.find_spec(name) is None
    assert not shelf.asked


def test_a_namespace_has_parts_of_the_program_and_of_this_host(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here/farpns").mkdir(parents=True)
    (tmp_path / "here/farpns/b.py").write_text("x = 'b'\n")
    monkeypatch.syspath_prepend(tmp_path / "here")
    shelf.bring("farpns", "1", namespace=True, farpns__in__a="x = 'a'\n", farpns__in__c="x = 'c'\n")
    assert importlib.import_module("farpns.a").x == "a"
    assert importlib.import_module("farpns.b").x == "b"
    monkeypatch.syspath_prepend(tmp_path)  # which has every namespace looked for again
    assert importlib.import_module("farpns.c").x == "c"


def test_a_reload_brings_what_was_edited(shelf: Shelf) -> None:
    shelf.bring("farpr", "1", farpr__in____init__="x = 1\n", farpr__in__sub="y = 1\n", farpr__in__other="z = 1\n")
    package, part = importlib.import_module("farpr"), importlib.import_module("farpr.sub")
    shelf.bring("farpr", "2", farpr__in____init__="x = 2\n", farpr__in__sub="y = 2\n", farpr__in__other="z = 2\n")
    importlib.reload(part)
    assert part.y == 2
    assert shelf.asked[-1] == ("farpr", True)
    assert importlib.import_module("farpr.other").z == 2  # the package is all of one state from then on
    assert package.x == 1
    importlib.reload(package)
    assert package.x == 2


def test_what_was_added_to_a_package_later_is_found(shelf: Shelf) -> None:
    shelf.bring("farpa", "1", farpa__in____init__="")
    importlib.import_module("farpa")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'farpa.late'$"):
        importlib.import_module("farpa.late")
    asked = len(shelf.asked)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("farpa.late")
    assert len(shelf.asked) == asked  # not so soon again
    shelf.bring("farpa", "2", farpa__in____init__="", farpa__in__new="x = 1\n")
    assert importlib.import_module("farpa.new").x == 1


def test_an_import_that_fails_says_why_and_a_look_does_not_fail(shelf: Shelf) -> None:
    shelf.found["farplarge"] = {"verdict": bundles.REFUSED, "reason": "it is too large"}
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'farplarge' on host .*: it is too large") as caught:
        importlib.import_module("farplarge")
    assert caught.value.name == "farplarge"
    assert importlib.util.find_spec("farplarge") is None
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'farpnone'$"):
        importlib.import_module("farpnone")
    shelf.bring("farpi", "1", farpi__in____init__="")
    shelf.found["farpi"]["left_out"] = {
        "farpi/_x.cpython-39.so": "it is compiled for another platform",
        "farpi/_y.py": "no",
    }
    with pytest.raises(ModuleNotFoundError, match=r"the program has farpi/_x.cpython-39.so, .*compiled for another"):
        importlib.import_module("farpi._x")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'farpi._'$"):
        importlib.import_module("farpi._")


def test_the_script_is_brought_when_somebody_wants_its_text(shelf: Shelf) -> None:
    first = next(finder for finder in sys.meta_path if isinstance(finder, CodeFinder))
    shelf.bring("__main__", "1", __main__="x = 1\n")
    source = MainSource(first)
    assert not shelf.asked
    assert source.get_source("__main__") == source.get_source("__main__") == "x = 1\n"
    assert shelf.asked == [("__main__", False)]
    shelf.found.clear()
    assert MainSource(first).get_source("__main__") is None
    assert first.find_spec("__main__") is None


def test_versions_of_packages_that_were_sent_are_known(shelf: Shelf) -> None:
    shelf.bring("farpv", "1", farpv__in____init__="")
    metadata = shelf.folder / "1/farpv-3.2.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: farpv\nVersion: 3.2\n")
    importlib.import_module("farpv")
    assert importlib.metadata.version("farpv") == "3.2"
