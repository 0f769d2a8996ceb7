from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING

import numpy as np

from scalepool._wire.pickling.ledger import MAX_CLASSES, Definitions, GlobalsLedger
from scalepool._wire.pickling.namespaces import Namespaces

if TYPE_CHECKING:
    import pytest


class Thing:
    def __init__(self) -> None:
        self.x = 1


def test_tokens_change_with_identity_and_with_content() -> None:
    ledger = GlobalsLedger(3)
    thing = Thing()
    first = ledger.token("m", "a", thing)
    assert first[0] == 3
    assert ledger.token("m", "a", thing) == first
    assert ledger.token("m", "b", thing) != first
    thing.x = 2
    second = ledger.token("m", "a", thing)
    assert second > first
    other = Thing()
    other.x = 2
    assert ledger.token("m", "a", other) > second


def test_equal_lists_are_different_values() -> None:
    ledger = GlobalsLedger(1)
    assert ledger.token("m", "a", list("ab")) != ledger.token("m", "a", list("ab"))


def test_arrays_are_compared_by_content() -> None:
    ledger = GlobalsLedger(1)
    data = bytearray(100)
    first = ledger.token("m", "a", data)
    assert ledger.token("m", "a", data) == first
    data[5] = 1
    assert ledger.token("m", "a", data) != first


def test_large_arrays_are_known_by_what_keeps_them() -> None:
    ledger = GlobalsLedger(1)
    small, large = np.zeros(1000), np.zeros(1 << 18)
    seen: list[int] = []
    number: int | None = 7

    def keep(view: memoryview) -> int | None:
        seen.append(view.nbytes)
        return number

    ledger.keep = keep
    token = ledger.token("m", "data", [small, large])
    value = [small, large]
    token = ledger.token("m", "data", value)
    assert seen == [large.nbytes] * 2
    large[0] = 1
    assert ledger.token("m", "data", value) == token  # nobody looked
    number = 8
    assert ledger.token("m", "data", value) != token
    token = ledger.token("m", "data", value)
    small[0] = 1
    assert ledger.token("m", "data", value) != token

    number = None  # not kept: by a digest, then
    token = ledger.token("m", "data", value)
    assert ledger.token("m", "data", value) == token
    large[1] = 1
    assert ledger.token("m", "data", value) != token


def test_what_has_no_digest_is_compared_by_identity() -> None:
    ledger = GlobalsLedger(1)
    value = {"f": lambda: 1}
    first = ledger.token("m", "a", value)
    value["g"] = lambda: 2
    assert ledger.token("m", "a", value) == first
    assert ledger.token("m", "a", {"f": None}) != first


def test_senders_never_share_a_token() -> None:
    assert GlobalsLedger(1).token("m", "a", 1) != GlobalsLedger(2).token("m", "a", 1)


def test_adopted_values_go_on_under_their_token() -> None:
    ledger = GlobalsLedger(1)
    value = "immutable"
    ledger.adopt("m", "a", (9, 9), value)
    assert ledger.token("m", "a", value) == (9, 9)
    edited = [1]
    ledger.adopt("m", "b", (9, 10), edited)
    assert ledger.token("m", "b", edited)[0] == 1  # it may have been edited here meanwhile


def test_values_are_held_weakly_where_possible() -> None:
    ledger = GlobalsLedger(1)
    thing = Thing()
    ledger.token("m", "a", thing)
    probe = weakref.ref(thing)
    del thing
    gc.collect()
    assert probe() is None


def test_memory_of_classes_is_bounded() -> None:
    ledger = GlobalsLedger(1)
    definitions = Definitions(ledger)
    probes = []
    for _ in range(MAX_CLASSES + 50):
        cls = type("Local", (), {"x": []})
        ledger.token(definitions.id_of(cls), "x", cls.__dict__["x"])
        probes.append(weakref.ref(cls))
    del cls
    gc.collect()
    assert sum(probe() is not None for probe in probes) == MAX_CLASSES


def test_definitions_know_their_own() -> None:
    ours, theirs = Definitions(GlobalsLedger(1)), Definitions(GlobalsLedger(2))
    mine = type("Mine", (), {})
    identity = ours.id_of(mine)
    assert ours.id_of(mine) == identity
    copy = type("Mine", (), {})
    theirs.receive(identity, copy)
    assert theirs.id_of(copy) == identity
    assert theirs.get(identity) is copy
    assert (ours.is_native(mine), theirs.is_native(copy), theirs.is_native(int)) == (True, False, False)
    assert theirs.origin_of(copy) == 1
    assert theirs.origin_of(int) is None


def test_a_namespace_takes_news_only() -> None:
    namespaces = Namespaces(GlobalsLedger(5))
    namespaces.store("plugin", namespaces.private("plugin", {}), {"x": ((1, 4), "first"), "always": (None, 1)})
    namespace = namespaces.private("plugin", {"__file__": "here"})
    assert (namespace["x"], namespace["__name__"], namespace["__file__"]) == ("first", "plugin", "here")
    namespace["x"] = namespace["always"] = "set by a task"
    namespaces.store("plugin", namespaces.private("plugin", {}), {"x": ((1, 4), "first"), "always": (None, 2)})
    assert (namespace["x"], namespace["always"]) == ("set by a task", 2)
    namespaces.store("plugin", namespaces.private("plugin", {}), {"x": ((1, 3), "older")})
    assert namespace["x"] == "set by a task"
    namespaces.store("plugin", namespaces.private("plugin", {}), {"x": ((2, 1), "another sender")})
    assert namespace["x"] == "another sender"
    namespaces.store("plugin", namespaces.private("plugin", {}), {"x": ((1, 5), "newer")})
    assert namespace["x"] == "newer"


def test_a_users_own_main_is_never_overwritten() -> None:
    import __main__

    namespaces = Namespaces(GlobalsLedger(5))
    assert namespaces.has_own_main
    before = dict(vars(__main__))
    namespaces.store("__main__", vars(__main__), {"__name__": ((1, 1), "changed")})
    assert vars(__main__) == before


def test_plain_globals_of_an_importable_module_are_taken_once_they_are_rebound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # put back afterwards
    ledger = GlobalsLedger(1)
    first = ledger.rebinding("plugin", "level", "low")
    namespaces = Namespaces(GlobalsLedger(5))
    namespaces.install_main()
    namespace = {"level": "set by an initializer"}
    namespaces.store("plugin", namespace, {"level": (first, "low"), "late": (ledger.rebinding("plugin", "late", 5), 5)})
    assert namespace == {"level": "set by an initializer", "late": 5}
    rebound = ledger.rebinding("plugin", "level", "high")
    namespaces.store("plugin", namespace, {"level": (rebound, "high")})
    assert namespace["level"] == "high"
