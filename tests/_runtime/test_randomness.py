from __future__ import annotations

import pickle
import random
import sys
import traceback
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scalepool._runtime import randomness
from scalepool._runtime.randomness import Seed, SeededCall, pause, resume, seed_from_os, seed_torch, task_rng

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(legacy)
    assert randomness._active is None


def draw(_item: object = None) -> tuple[float, float, float]:
    return random.random(), np.random.standard_normal(), task_rng().random()


def test_an_item_gets_the_child_that_numpy_would_spawn() -> None:
    children = np.random.SeedSequence(7).spawn(5)

    for position, child in enumerate(children):
        own = Seed.of(7).child(position).sequence()
        assert (own.entropy, own.spawn_key) == (child.entropy, child.spawn_key)
        assert SeededCall(draw, Seed.of(7))((position, None))[2] == np.random.default_rng(child).random()


@pytest.mark.parametrize("seed", [0, np.int64(3), (1, 2), [2**100, 5], range(3), 2**200])
def test_seeds_that_numpy_takes(seed: Any) -> None:
    own = Seed.of(seed).sequence()

    assert list(own.generate_state(4)) == list(np.random.SeedSequence(seed).generate_state(4))


def test_a_seed_sequence_is_continued_and_left_alone() -> None:
    sequence = np.random.SeedSequence((3, 4)).spawn(2)[1]
    own = Seed.of(sequence).child(2).sequence()

    assert sequence.n_children_spawned == 0
    assert list(own.generate_state(4)) == list(sequence.spawn(3)[2].generate_state(4))
    assert Seed.of(Seed.of(sequence)) == Seed.of(sequence)


@pytest.mark.parametrize("seed", [-1, (1, -2), ()])
def test_numbers_that_are_no_seed(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must not be"):
        Seed.of(seed)


@pytest.mark.parametrize("seed", [True, 1.5, "seven", b"x", object(), [1.5], np.random.default_rng(0)])
def test_things_that_are_no_seed(seed: Any) -> None:
    with pytest.raises(TypeError, match="seed must be a whole number"):
        Seed.of(seed)


def test_an_item_draws_the_same_whatever_was_drawn_before() -> None:
    call = pickle.loads(pickle.dumps(SeededCall(draw, Seed.of(1))))
    first = call((3, None))
    np.random.seed(9)
    np.random.standard_normal()  # numpy keeps the second of a pair
    random.gauss(0, 1)

    assert call((3, None)) == first
    assert call((4, None)) != first
    assert SeededCall(draw, Seed.of(2))((3, None)) != first


def test_the_state_before_is_there_again_afterwards() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = [random.random(), np.random.rand()]
    random.seed(5)
    np.random.seed(5)
    SeededCall(draw, Seed.of(1))((0, None))

    assert [random.random(), np.random.rand()] == expected


def test_an_old_numpy_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    modern = SeededCall(draw, Seed.of(1))((0, None))
    np.random.seed(5)
    expected = np.random.rand()
    monkeypatch.delattr(np.random, "set_bit_generator")
    np.random.seed(5)

    assert SeededCall(draw, Seed.of(1))((0, None)) == modern
    assert np.random.rand() == expected


def test_arguments_are_spread_where_an_item_is_several() -> None:
    assert SeededCall(lambda one, two: (one, two), Seed.of(1), True)((0, (3, 4))) == (3, 4)


def test_an_error_shows_the_users_frames_only() -> None:
    def fail(_item: object) -> None:
        raise LookupError("mine")

    random.seed(5)
    state = random.getstate()
    with pytest.raises(LookupError) as caught:
        SeededCall(fail, Seed.of(1))((0, None))

    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    if sys.version_info >= (3, 11):
        assert names == ["test_an_error_shows_the_users_frames_only", "fail"]
    assert random.getstate() == state


def test_what_runs_inside_of_a_pause_neither_sees_nor_moves_the_items_numbers() -> None:
    def with_pause(_item: object) -> list[float]:
        before = [random.random(), np.random.rand(), task_rng().random()]
        paused = pause()
        seen = [random.random(), np.random.rand(), task_rng().random()]
        resume(paused)
        return [*before, random.random(), np.random.rand(), task_rng().random(), *seen]

    def without(_item: object) -> list[float]:
        before = [random.random(), np.random.rand(), task_rng().random()]
        return [*before, random.random(), np.random.rand(), task_rng().random()]

    first, second = (SeededCall(with_pause, Seed.of(1))((0, None)) for _ in range(2))

    assert first[:6] == second[:6] == SeededCall(without, Seed.of(1))((0, None))
    assert not set(first[6:]) & set(second[6:])


def test_items_inside_of_items() -> None:
    def outer(_item: object) -> list[Any]:
        first = random.random()
        paused = pause()
        inner = SeededCall(draw, Seed.of(2))((0, None))
        resume(paused)
        return [inner, first, random.random()]

    alone = SeededCall(draw, Seed.of(2))((0, None))
    inner, first, second = SeededCall(outer, Seed.of(1))((0, None))

    assert inner == alone
    assert first != second


def test_outside_of_an_item_a_generator_is_fresh() -> None:
    assert pause() is None
    resume(None)
    assert task_rng().random() != task_rng().random()


def test_in_an_item_there_is_one_generator() -> None:
    assert SeededCall(lambda _: task_rng() is task_rng(), Seed.of(1))((0, None))


def test_the_operating_system_seeds() -> None:
    random.seed(1)
    np.random.seed(1)
    seed_from_os()
    first = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    seed_from_os()

    assert not {random.random(), np.random.rand()} & set(first)


class Torch:
    """What of torch is looked at."""

    def __init__(self, seed: int) -> None:
        self.seeds = [seed]

    def initial_seed(self) -> int:
        return self.seeds[-1]

    def seed(self) -> None:
        self.seeds.append(1234)


@pytest.mark.parametrize(("seed", "after"), [(67280421310721, 1234), (42, 42)])
def test_torch_is_seeded_unless_the_user_did(monkeypatch: pytest.MonkeyPatch, seed: int, after: int) -> None:
    torch = types.ModuleType("torch")
    torch.default_generator = Torch(seed)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    seed_torch()

    assert torch.default_generator.initial_seed() == after
