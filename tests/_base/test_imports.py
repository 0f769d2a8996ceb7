"""Steps that wait for an import."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from scalepool._base.imports import after_import, forget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that nobody has imported yet."""
    (tmp_path / "waited_for.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "waited_for"
    sys.modules.pop("waited_for", None)


def test_the_step_comes_after_the_modules_own_code(name: str) -> None:
    before = list(sys.meta_path)
    seen: list[int] = []
    after_import(name, lambda module: seen.append(module.VALUE))
    assert seen == []

    module = importlib.import_module(name)

    assert seen == [1]
    assert sys.meta_path == before
    assert module.__spec__ is not None
    assert module.__loader__ is module.__spec__.loader
    assert type(module.__loader__).__name__ == "SourceFileLoader"


def test_an_imported_module_is_there_already(name: str) -> None:
    module = importlib.import_module(name)
    seen: list[ModuleType] = []
    after_import(name, seen.append)
    assert seen == [module]


def test_several_steps_for_one_module_are_all_taken(name: str) -> None:
    seen: list[str] = []
    after_import(name, lambda _: seen.append("first"))
    after_import(name, lambda _: seen.append("second"))
    importlib.import_module(name)
    assert sorted(seen) == ["first", "second"]


def test_what_is_forgotten_does_not_happen(name: str) -> None:
    seen: list[ModuleType] = []
    before = list(sys.meta_path)
    after_import(name, seen.append)
    forget(name, lambda _: None)  # another step
    assert sys.meta_path != before
    forget(name, seen.append)
    assert sys.meta_path == before
    importlib.import_module(name)
    assert seen == []


def test_a_module_that_does_not_exist_is_still_missed() -> None:
    step = [].append
    after_import("no_module_of_this_name", step)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_module_of_this_name")
    assert not any(type(one).__name__ == "_Hook" and one.waits_for("no_module_of_this_name", step)  # type: ignore[attr-defined]
                   for one in sys.meta_path)  # fmt: skip
