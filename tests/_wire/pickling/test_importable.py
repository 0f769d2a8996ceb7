from __future__ import annotations

import importlib.util
import json
import sys
import xml.dom
from types import ModuleType
from typing import TYPE_CHECKING

import cloudpickle
import pytest

import scalepool._wire
from scalepool._wire.pickling.importable import ByValueModules, is_importable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("module", [json, sys, xml.dom, importlib.util, scalepool._wire, importlib._bootstrap])
def test_imported_modules_are_importable(module: ModuleType) -> None:
    assert is_importable(module.__name__, module)


def test_main_is_not() -> None:
    assert not is_importable("__main__", sys.modules["__main__"])
    assert "__main__" in ByValueModules().names()


def test_strange_things_in_sys_modules_are_left_alone() -> None:
    assert is_importable("lazy", object())
    assert is_importable("gone", None)


def test_made_modules_are_not_importable_even_when_their_name_exists_elsewhere(tmp_path: Path) -> None:
    assert not is_importable("surely_nowhere", ModuleType("surely_nowhere"))
    assert not is_importable("nobody.surely_nowhere", ModuleType("nobody.surely_nowhere"))
    path = tmp_path / "json.py"
    path.write_text("")
    spec = importlib.util.spec_from_file_location("json", path)
    assert spec is not None
    assert not is_importable("json", importlib.util.module_from_spec(spec))


def test_files_under_another_name_or_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "real_name.py"
    path.write_text("")
    invented = importlib.util.spec_from_file_location("invented_name", path)
    real = importlib.util.spec_from_file_location("real_name", path)
    assert invented is not None
    assert real is not None
    assert not is_importable("real_name", importlib.util.module_from_spec(real))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_importable("real_name", importlib.util.module_from_spec(real))
    assert not is_importable("invented_name", importlib.util.module_from_spec(invented))


def test_names_follow_sys_modules_and_registrations(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ByValueModules()
    assert not record.mentioned_in(b"...made_up_module...")
    monkeypatch.setitem(sys.modules, "made_up_module", ModuleType("made_up_module"))
    assert record.mentioned_in(b"...made_up_module...")
    cloudpickle.register_pickle_by_value(json)
    try:
        assert record.mentioned_in(b"..json..")
    finally:
        cloudpickle.unregister_pickle_by_value(json)
    assert not record.mentioned_in(b"..json..")
