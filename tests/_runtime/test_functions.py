"""A function is pickled again only when its pickle may have changed."""

from __future__ import annotations

import functools
import math
import types
from typing import Any

import pytest

from scalepool._runtime.functions import Exporter, Function, name_of
from scalepool._runtime.packing import Packer
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool.errors import SerializationError


def importable() -> None:
    """A function that workers find by its name."""


@pytest.fixture
def packer() -> Packer:
    ids = iter(range(1, 1000))
    return Packer(SegmentStore(), Views(), lambda: next(ids), 65_536)


@pytest.fixture
def exporter(packer: Packer) -> Exporter:
    return Exporter(packer)


def made(source: str, **names: Any) -> dict[str, Any]:
    """A module without a file, like a notebook's: what it defines travels by value."""
    module = types.ModuleType("__notebook__")
    module.__dict__.update(names)
    exec(source, module.__dict__)
    return module.__dict__


def test_an_importable_function_is_exported_once(exporter: Exporter) -> None:
    first = exporter.export(math.sqrt)

    assert exporter.export(math.sqrt) is first
    assert first.name == "sqrt"
    assert 0 <= first.id < 2**63
    assert "sqrt" in repr(first)


def test_equal_pickles_have_equal_ids_in_any_process(packer: Packer) -> None:
    one, two = Exporter(packer).export(math.sqrt), Exporter(packer).export(math.sqrt)

    assert one is not two
    assert one.id == two.id
    assert one.id != Exporter(packer).export(math.cos).id


def test_a_closure_that_changed_is_pickled_anew(exporter: Exporter, packer: Packer) -> None:
    number = 1

    def add(x: int) -> int:
        return x + number

    first = exporter.export(add)
    number = 10
    second = exporter.export(add)

    assert first.id != second.id
    assert packer.unpack(second.packed.data, {})(1) == 11


def test_a_global_that_changed_is_pickled_anew(exporter: Exporter, packer: Packer) -> None:
    names = made("def add(x): return x + number", number=1)
    first = exporter.export(names["add"])
    names["number"] = 10
    second = exporter.export(names["add"])

    assert first.id != second.id


def test_a_mutable_value_in_a_closure_is_looked_at_each_time(exporter: Exporter) -> None:
    values = [1]

    def total() -> int:
        return sum(values)

    first = exporter.export(total)
    values.append(2)

    assert exporter.export(total).id != first.id


def test_a_redefined_function_is_another_one(exporter: Exporter) -> None:
    first = exporter.export(made("def f(x): return x")["f"])
    second = exporter.export(made("def f(x): return x + 1")["f"])

    assert first.id != second.id


def test_what_was_exported_is_the_same_until_something_in_it_changes(exporter: Exporter) -> None:
    names = made("def add(x): return x + number", number=1)
    add = names["add"]
    assert exporter.same(add) is None
    first = exporter.export(add)
    assert exporter.same(add) is first
    names["number"] = 10
    assert exporter.same(add) is None
    assert exporter.export(add) is not first


def test_a_function_whose_name_came_to_mean_something_else_is_not_the_same(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = exporter.export(importable)
    assert exporter.same(importable) is first
    before = importable
    monkeypatch.setitem(globals(), "importable", object())
    assert exporter.same(before) is None


def test_no_more_than_so_many_are_kept(exporter: Exporter) -> None:
    functions = [functools.partial(math.pow, number) for number in range(400)]
    exported = [exporter.export(fn) for fn in functions]

    assert len({function.id for function in exported}) == 400
    assert len(exporter._cache) <= 256


def test_what_cannot_be_called_or_pickled_is_refused(exporter: Exporter) -> None:
    with pytest.raises(TypeError, match="not callable"):
        exporter.export(5)  # type: ignore[arg-type]
    generator = (i for i in ())
    with pytest.raises(SerializationError):
        exporter.export(lambda: generator)


def test_names(exporter: Exporter) -> None:
    class Callable:
        def __call__(self) -> None: ...

    assert name_of(functools.partial(functools.partial(math.sqrt), 1)) == "sqrt"
    assert name_of(Callable()).endswith("Callable")
    assert name_of([].append).endswith("append")
    assert isinstance(exporter.export(len), Function)
