"""Random numbers: different in each worker by default, the same for any cut with ``seed=``."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scalepool
from live.helpers import run
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

pytestmark = pytest.mark.live

ITEMS = 40
PACKAGE = Path(scalepool.__file__).parent


def draw(item: int) -> tuple[int, float, float, float]:
    return item, random.random(), np.random.standard_normal(), scalepool.task_rng().random()


def draw_two(first: int, second: int) -> tuple[int, float, float, float]:
    return draw(first + second)


def first_numbers(_item: int) -> tuple[int, float, float]:
    # Once per process and task: whoever draws first in a worker shows the state that it began with.
    return os.getpid(), random.random(), np.random.rand()


def test_no_two_workers_draw_the_same() -> None:
    drawn = []
    for initializer in (None, os.getpid):  # shared workers, and such as belong to one pool
        with Pool(4, initializer) as pool:
            drawn += pool.map(first_numbers, range(40), 1)

    assert len({python for _, python, _ in drawn}) == len(drawn)
    assert len({numpy for _, _, numpy in drawn}) == len(drawn)


def set_seed(seed: int) -> None:
    random.seed(seed)


def test_what_an_initializer_seeds_stays_seeded() -> None:
    with Pool(1, set_seed, (5,)) as pool:
        assert pool.apply(draw, (0,))[1] == random.Random(5).random()


def test_a_seed_gives_the_same_for_any_cut_and_call() -> None:
    expected = None
    for workers in (1, 2, 3):
        with Pool(workers) as pool:
            found = [
                pool.map(draw, range(ITEMS), seed=3),
                pool.map(draw, iter(range(ITEMS)), 7, seed=3),
                pool.map_async(draw, range(ITEMS), 40, seed=np.random.SeedSequence(3)).get(60),
                pool.starmap(draw_two, [(item, 0) for item in range(ITEMS)], seed=3),
                pool.starmap_async(draw_two, [(item, 0) for item in range(ITEMS)], 3, seed=3).get(60),
                list(pool.imap(draw, range(ITEMS), seed=3)),
                list(pool.imap(draw, iter(range(ITEMS)), 6, seed=3)),
                sorted(pool.imap_unordered(draw, range(ITEMS), 5, seed=3)),
            ]
        with ProcessPoolExecutor(workers) as executor:
            found += [
                list(executor.map(draw, range(ITEMS), seed=3)),
                list(executor.map(draw_two, range(ITEMS), [0] * 1000, chunksize=7, seed=3)),
                list(executor.map(draw_two, iter(range(ITEMS)), [0] * 1000, buffersize=2, seed=3)),
            ]
        expected = expected or found[0]
        assert [item for item, *_ in expected] == list(range(ITEMS))
        assert all(one == expected for one in found)
    children = np.random.SeedSequence(3).spawn(ITEMS)
    assert [drawn[3] for drawn in expected or ()] == [np.random.default_rng(child).random() for child in children]


def test_tasks_after_a_seeded_map_are_not_seeded() -> None:
    with Pool(1) as pool:
        pool.map(draw, [0], seed=3)
        first = pool.map(draw, [0])
        pool.map(draw, [0], seed=3)

        assert not set(pool.map(draw, [0])[0][1:]) & set(first[0][1:])


def nest(item: int) -> list[Any]:
    before = random.random()
    with Pool(2) as pool:
        unseeded = pool.map(draw, range(4))
        seeded = pool.map(draw, range(4), seed=item)
    return [before, seeded, random.random(), scalepool.task_rng().random(), unseeded]


def test_a_seeded_item_that_waits_for_others_draws_on_where_it_was() -> None:
    with Pool(2) as pool:
        one = pool.map(nest, range(4), seed=8)
        other = pool.map(nest, range(4), 2, seed=8)

    assert [nested[:4] for nested in one] == [nested[:4] for nested in other]
    assert all(first[4] != second[4] for first, second in zip(one, other, strict=True))


def fail(item: int) -> None:
    raise LookupError(item)


def test_an_error_of_a_seeded_item_is_the_users_with_his_frames() -> None:
    with Pool(1) as pool:
        with pytest.raises(LookupError) as mapped:
            pool.map(fail, [1], seed=3)
        with pytest.raises(LookupError) as iterated:
            list(pool.imap(fail, [1], seed=3))

    for caught in (mapped, iterated):
        assert "in fail" in str(caught.value.__cause__)
        if sys.version_info >= (3, 11):
            assert str(PACKAGE) not in str(caught.value.__cause__).partition("LookupError")[0]


@pytest.mark.parametrize("seed", [-1, "x", 1.5])
def test_what_is_no_seed_is_refused_at_once(seed: Any) -> None:
    with Pool(1) as pool, ProcessPoolExecutor(1) as executor:
        for call in (pool.map, pool.imap, pool.starmap_async, executor.map):
            with pytest.raises((TypeError, ValueError), match="seed must"):
                call(draw, range(3), seed=seed)  # type: ignore[operator]


def test_without_numpy_there_is_still_random(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('there is no numpy here')")
    source = """
    import random
    from scalepool.multiprocessing import Pool

    def draw(item): return random.random()
    drawn = []
    for workers in (1, 3):
        with Pool(workers) as pool:
            drawn.append(pool.map(draw, range(10), seed=3))
    print(drawn[0] == drawn[1], len(set(drawn[0])), drawn[0][0])
    """
    with Pool(1) as pool:
        expected = pool.map(draw, [0], seed=3)[0][1]

    assert run(tmp_path, source).split() == ["True", "10", repr(expected)]
