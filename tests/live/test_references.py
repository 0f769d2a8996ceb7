"""References that travel from process to process: a value lives as long as somebody has one, and not much longer."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live.helpers import wait_for
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import ActorDiedError

np = pytest.importorskip("numpy")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scalepool import ObjectRef

pytestmark = pytest.mark.live

COUNT = 1 << 17  # a megabyte of float64


@scalepool.remote
class Keeper:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: Any = None

    def keep(self, what: Any) -> int:
        self.kept = what
        return os.getpid()

    def drop(self) -> None:
        self.kept = None

    def give(self) -> Any:
        return self.kept

    def sum(self) -> float:
        return float(scalepool.get(_innermost(self.kept)).sum())


def _innermost(what: Any) -> ObjectRef[Any]:
    while not isinstance(what, scalepool.ObjectRef):
        what = next(iter(what.values() if isinstance(what, dict) else what))
    return what


@scalepool.remote
def hand_on(what: Any, keeper: Any) -> int:
    """Be in the middle: have references for a moment, and hand them on."""
    return int(scalepool.get(keeper.keep.remote(what)))


@scalepool.remote
def make(value: float) -> Any:
    return np.full(COUNT, value)


@scalepool.remote
def make_inside(value: float) -> Any:
    """Return a reference to what this process has put, and to what another task makes."""
    return {"put": scalepool.put(np.full(COUNT, value)), "made": [make.remote(value)]}


@scalepool.remote
def total(what: Any) -> float:
    return float(scalepool.get(_innermost(what)).sum())


@scalepool.remote
def die_with(what: Any) -> None:
    """Be killed with references in hand."""
    assert what
    os.kill(os.getpid(), signal.SIGKILL)


def _state() -> Any:
    session = existing()
    assert isinstance(session, DriverSession)
    return session.hub._state


def _has(ref_id: int) -> bool:
    gc.collect()
    return ref_id in _state().values


def _nothing_is_kept() -> bool:
    gc.collect()
    state = _state()
    return not len(state.values) and not len(state.objects)


@pytest.fixture(autouse=True)
def _session() -> Iterator[None]:
    """Whatever a test has done, nothing is left of it: no value, no object, no file."""
    scalepool.shutdown()
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    scalepool.init(num_cpus=2)
    yield
    wait_for(_nothing_is_kept, 20.0)
    scalepool.shutdown()
    assert set(os.listdir("/dev/shm")) <= before  # noqa: PTH208


NESTS: list[Callable[[Any], Any]] = [
    lambda ref: [ref],
    lambda ref: {"deep": [({"deeper": (ref,)},)]},
    lambda ref: frozenset([ref]),
    lambda ref: [scalepool.put([scalepool.put({"inner": ref})])],
]


@pytest.mark.parametrize("nest", range(3))
def test_from_the_driver_by_a_worker_to_an_actor(nest: int) -> None:
    keeper = Keeper.remote()
    ref = scalepool.put(np.ones(COUNT))
    value = ref.id
    scalepool.get(hand_on.remote(NESTS[nest](ref), keeper))
    del ref
    assert scalepool.get(keeper.sum.remote()) == COUNT
    assert _has(value)
    scalepool.get(keeper.drop.remote())
    wait_for(lambda: not _has(value))


def test_references_inside_of_values_that_references_stand_for() -> None:
    inner = scalepool.put(np.ones(COUNT))
    value = inner.id
    outer = NESTS[3](inner)
    del inner
    (middle,) = scalepool.get(outer)
    del outer
    (last,) = (scalepool.get(one)["inner"] for one in middle)
    del middle
    assert scalepool.get(last).sum() == COUNT
    wait_for(lambda: _has(value))  # nobody but this process needs it, so the hub need not know yet
    del last
    wait_for(lambda: not _has(value))


def test_results_bring_references_to_what_other_processes_have_made() -> None:
    made = scalepool.get(make_inside.remote(3.0))
    put, other = made["put"].id, made["made"][0].id
    assert scalepool.get([total.remote([made["put"]]), total.remote(made["made"])]) == [3.0 * COUNT] * 2
    del made["put"]
    wait_for(lambda: not _has(put))
    assert _has(other)
    del made
    wait_for(lambda: not _has(other))


def test_from_actor_to_actor_and_back() -> None:
    first, second = Keeper.remote(), Keeper.remote()
    ref = make.remote(2.0)
    value = ref.id
    scalepool.get(first.keep.remote([ref]))
    del ref
    scalepool.get(second.keep.remote(first.give.remote()))
    scalepool.get(first.drop.remote())
    assert scalepool.get(second.sum.remote()) == 2.0 * COUNT
    (back,) = scalepool.get(second.give.remote())
    scalepool.get(second.drop.remote())
    assert scalepool.get(back).sum() == 2.0 * COUNT
    assert back.id == value
    del back
    wait_for(lambda: not _has(value))


def test_what_only_a_killed_actor_has_kept_goes_with_it() -> None:
    keeper = Keeper.remote()
    ref = scalepool.put(np.ones(COUNT))
    value = ref.id
    pid = scalepool.get(keeper.keep.remote([ref]))
    del ref
    assert scalepool.get(keeper.sum.remote()) == COUNT
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not _has(value))
    with pytest.raises(ActorDiedError):
        scalepool.get(keeper.sum.remote())


def test_a_killed_worker_does_not_take_along_what_others_have() -> None:
    ref = make.remote(5.0)
    value = ref.id
    done = die_with.remote([ref])
    assert scalepool.wait([done], timeout=60)[0]
    assert scalepool.get(ref).sum() == 5.0 * COUNT
    assert _has(value)
    del ref, done
    wait_for(lambda: not _has(value))


def test_a_task_has_its_references_until_it_begins_whoever_drops_theirs(tmp_path: Path) -> None:
    go = tmp_path / "go"

    @scalepool.remote
    def wait_until() -> None:
        wait_for(go.exists)

    blocking = [wait_until.remote() for _ in range(2)]
    ref = scalepool.put(np.ones(COUNT))
    value = ref.id
    sums = [total.remote({"deep": [ref]}) for _ in range(4)]
    del ref
    wait_for(lambda: _has(value))
    go.touch()
    assert scalepool.get(sums) == [COUNT] * 4
    scalepool.get(blocking)
    wait_for(lambda: not _has(value))


def _closing_over(ref: ObjectRef[Any]) -> Any:
    return scalepool.remote(lambda: float(scalepool.get(ref).sum()))


def test_references_in_closures() -> None:
    ref = scalepool.put(np.ones(COUNT))
    value = ref.id
    function = _closing_over(ref)
    del ref
    assert scalepool.get([function.remote() for _ in range(4)]) == [COUNT] * 4
    assert _has(value)
    del function
    wait_for(lambda: not _has(value))
