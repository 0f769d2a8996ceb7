from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._wire.pickling.importable import ByValueModules, by_value_modules
from scalepool._wire.pickling.reloading import reload_in_place, watch_patches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = """
import functools
KEPT = 1
def function(x, by=1):
    return x + by
def closed():
    y = 1
    return lambda: y
inner = closed()
class Base:
    def name(self): return "base"
class Thing(Base):
    __slots__ = ("x",)
    attribute = 1
    def name(self): return super().name() + " old"
    def gone(self): return "gone"
    @property
    def size(self): return 1
"""
NEW = (
    OLD.replace("x + by", "x - by")
    .replace("by=1", "by=2")
    .replace("old", "new")
    .replace("gone", "come")
    .replace("attribute = 1", "attribute = 2")
    .replace("return 1", "return 2")
    .replace("y = 1", "y = 1; z = 2")
    .replace("lambda: y", "lambda: y + z")
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(by_value_modules(), "reloads", {})  # what a session of an earlier test would note is gone again
    yield tmp_path
    for name in ("reloaded_module", "using_module"):
        sys.modules.pop(name, None)


def test_what_others_imported_from_a_module_gets_the_new_code(folder: Path) -> None:
    (folder / "reloaded_module.py").write_text(OLD)
    module: Any = importlib.import_module("reloaded_module")
    function, inner, thing, cls = module.function, module.inner, module.Thing(), module.Thing
    thing.x = 7
    (folder / "reloaded_module.py").write_text(NEW)
    reload_in_place(module)
    assert (function(5), module.function(5)) == (3, 3)
    assert (thing.name(), thing.size, thing.come(), thing.x, cls.attribute) == ("base new", 2, "come", 7, 2)
    assert not hasattr(thing, "gone")
    assert (module.Thing().name(), module.Thing.attribute) == ("base new", 2)
    assert (inner(), module.inner()) == (1, 3)  # another closure: the old one stays as it was


def test_a_reload_is_told_with_every_module_that_may_use_it(folder: Path) -> None:
    (folder / "reloaded_module.py").write_text("X = 1")
    (folder / "using_module.py").write_text("import reloaded_module")
    importlib.import_module("using_module")
    record = ByValueModules()
    record.look_from(str(folder), sys.path)
    assert not record.mentioned_in(b"using_module")
    record.note_reload("reloaded_module")
    assert record.mentioned_in(b"..using_module..")
    assert b"reloaded_module 1" in record.directed(b"\x80\x05..using_module..")
    assert not record.mentioned_in(b"..numpy.. ..json.. ..scalepool..")
    sys.meta_path.pop(0)


def test_only_what_ipython_has_edited_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reloader:
        def maybe_reload_module(self, module: Any) -> bool:
            return bool(module.edited)

    shell: list[object] = [None]
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell[0]))  # type: ignore[misc]
    name = "IPython.extensions.deduperreload.deduperreload"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(DeduperReloader=Reloader))  # type: ignore[misc]
    original = Reloader.maybe_reload_module
    reported: list[str] = []
    watch_patches(reported.append)
    assert Reloader.maybe_reload_module is original  # imported as a library, nobody types into it
    shell[0] = object()
    watch_patches(reported.append)
    for edited in (True, False):
        module = SimpleNamespace(__name__="module", edited=edited)
        assert Reloader().maybe_reload_module(module) is edited
    assert reported == ["module"]


def test_an_ipython_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))  # type: ignore[misc]
    monkeypatch.setitem(sys.modules, "IPython.extensions.deduperreload.deduperreload", None)  # type: ignore[arg-type]
    watch_patches(print)
