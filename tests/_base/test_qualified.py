"""Objects found by module and qualified name."""

from __future__ import annotations

import collections
import sys

import pytest

from scalepool._base.qualified import imported, lookup


def test_what_is_nested_is_found_by_its_qualified_name() -> None:
    assert lookup("collections", "OrderedDict.popitem") is collections.OrderedDict.popitem


@pytest.mark.parametrize(
    ("module", "name"), [("collections", "None_such"), ("collections", "deque.no.such"), ("no.such", "x")]
)
def test_what_is_not_there_is_none(module: str, name: str) -> None:
    assert lookup(module, name) is None


def test_a_lookup_imports_nothing_and_an_import_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this_is_no_module", raising=False)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert lookup("colorsys", "rgb_to_hls") is None
    assert callable(imported("colorsys", "rgb_to_hls"))
    with pytest.raises(ImportError):
        imported("this_is_no_module", "x")
