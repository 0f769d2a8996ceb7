from __future__ import annotations

import functools
import gc
import json
import math
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._wire.pickling.fingerprint import function_fingerprint

if TYPE_CHECKING:
    from scalepool._wire.pickling.exchange import Exchange


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that travels by value, as ``__main__`` does."""
    made = ModuleType("scalepool_test_made")
    monkeypatch.setitem(__import__("sys").modules, made.__name__, made)
    return made


def define(module: ModuleType, source: str) -> None:
    exec(source, module.__dict__)


def test_importable_functions_have_constant_keys() -> None:
    assert function_fingerprint(json.dumps) == function_fingerprint(json.dumps) is not None
    assert function_fingerprint(math.sin) == function_fingerprint(math.sin)
    assert function_fingerprint(json.dumps) != function_fingerprint(json.loads)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return x",
        "import math\ny = 1.5\nname = 'a'\nt = (1, ('b', None))\ndef f(): return y, name, t, math.pi",
        "def g(): return f\ndef f(): return g",
        "class C:\n    a = 1\n    def m(self): return C\n    @property\n    def p(self): return 1\ndef f(): return C()",
        "import functools\n@functools.lru_cache\ndef f(n): return f(n - 1)",
        "import enum\nclass E(enum.Enum):\n    A = 1\na = E.A\ndef f(): return a",
        (
            "import dataclasses\n@dataclasses.dataclass\nclass D:\n    x: int = 0\n"
            "    y: list = dataclasses.field(default_factory=list)\ndef f(): return D()"
        ),
        "class C:\n    @classmethod\n    def f(cls): return cls\nf = C.f",
        "import functools\nf = functools.partial(lambda x, y: x, 1, y=2)",
        "def make(n):\n    return lambda: n\nf = make(3)",
        "def f(*, k=1): return k\nf.note = 'x'",
    ],
)
def test_immutable_captures_give_equal_keys(module: ModuleType, source: str) -> None:
    define(module, source)
    first = function_fingerprint(module.f)
    assert first is not None
    assert first == function_fingerprint(module.f)
    assert hash(first) == hash(function_fingerprint(module.f))


@pytest.mark.parametrize(
    "source",
    [
        "d = {}\ndef f(): return d",
        "def make():\n    l = []\n    return lambda: l\nf = make()",
        "def f(x=[]): return x",
        "class C:\n    def m(self): return 1\nf = C().m",
        "d = []\ndef g(): return d\ndef f(): return g()",
        "class C:\n    items = []\ndef f(): return C",
        "class C:\n    _cache = {}\ndef f(): return C",
        "t = (1, [2])\ndef f(): return t",
        "\n".join(f"def f{i}(): return f{i + 1}()" for i in range(50)) + "\ndef f50(): return 1\nf = f0",
    ],
)
def test_mutable_captures_give_none(module: ModuleType, source: str) -> None:
    define(module, source)
    assert function_fingerprint(module.f) is None


@pytest.mark.parametrize(
    "change",
    [
        "x = 2000",
        "def g(): return 5",
        "f.__defaults__ = (3,)",
        "f.__code__ = (lambda n=1: x).__code__",
        "f.note = 1",
        "C.a = 2",
        "C.m = lambda self: 0",
        "class C: a = 1",
    ],
)
def test_every_change_shows(module: ModuleType, change: str) -> None:
    define(
        module,
        "x = 1000\ndef g(): return x\nclass C:\n    a = 1\n    def m(self): return 1\ndef f(n=1): return g(), C, x",
    )
    before = function_fingerprint(module.f)
    define(module, change)
    assert function_fingerprint(module.f) != before


def test_changing_a_global_and_back_is_a_change(module: ModuleType, exchange: Exchange) -> None:
    define(module, "def f(): return x\ndef g(): return x")
    module.x = old = "a"
    before = function_fingerprint(module.f)
    module.x = "b"
    assert function_fingerprint(module.g) is not None  # as an export of g would: "b" is now what was sent last
    exchange.ledger.token(module.__name__, "x", module.x)
    module.x = old
    assert function_fingerprint(module.f) != before


def test_a_key_keeps_its_parts_so_that_no_id_is_used_again(module: ModuleType) -> None:
    keys: list[Any] = []
    for number in range(200):
        function = FunctionType(compile(f"{number + 1000}", "<f>", "eval"), module.__dict__)
        keys.append(function_fingerprint(function))
        del function
        gc.collect(0)
    assert len(set(keys)) == 200


def test_mutable_partials_and_attributes() -> None:
    partial = functools.partial(json.dumps, [1])
    assert function_fingerprint(partial) is None
