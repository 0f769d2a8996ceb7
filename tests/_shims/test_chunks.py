"""Chunk sizes by simulation, and the function that runs a chunk."""

from __future__ import annotations

import heapq
import pickle
import random
from collections import deque

import pytest

from scalepool._shims.chunks import ChunkOutcomes, ChunkPlan, MapChunk, Pace, check_chunksize
from scalepool._shims.outcomes import MISSING
from scalepool.errors import RemoteTraceback


class Simulation:
    """Workers that take chunks from one queue, in simulated time."""

    def __init__(self, durations: list[float], workers: int, chunksize: int | None = None) -> None:
        self.sizes: list[int] = []
        self.largest_backlog = 0
        plan = ChunkPlan(len(durations), workers, chunksize)
        queue: deque[tuple[int, int]] = deque()
        busy: list[tuple[float, int, float]] = []  # (end, items, duration)
        now, start, idle = 0.0, 0, workers
        while plan.remaining or queue or busy:
            while plan.remaining and len(queue) + len(busy) < plan.window():
                size = plan.next_size()
                queue.append((start, size))
                self.sizes.append(size)
                start += size
            self.largest_backlog = max(self.largest_backlog, len(queue) + len(busy))
            while idle and queue:
                at, size = queue.popleft()
                spent = sum(durations[at : at + size])
                heapq.heappush(busy, (now + spent, size, spent))
                idle -= 1
            now, size, spent = heapq.heappop(busy)
            idle += 1
            plan.pace.observe(size, spent)
        self.makespan = now


def test_every_item_is_dealt_once() -> None:
    run = Simulation([0.001] * 1000, 3)

    assert sum(run.sizes) == 1000


def test_one_long_task_does_not_take_others_along() -> None:
    run = Simulation([15, 1, 1, 1, 1, 1], 2)

    assert run.makespan == 15


def test_a_million_no_ops_make_a_few_tens_of_chunks() -> None:
    run = Simulation([50e-9] * 1_000_000, 2)

    assert len(run.sizes) < 80
    assert run.makespan < 1.05 * 0.025


def test_sizes_shrink_towards_the_end() -> None:
    run = Simulation([0.01] * 2000, 4)

    assert run.sizes[-1] == 1
    assert max(run.sizes) <= 25  # a quarter of a second


def test_lognormal_durations_end_near_the_ideal() -> None:
    rng = random.Random(7)
    durations = [rng.lognormvariate(-5, 1.5) for _ in range(2000)]
    run = Simulation(durations, 4)

    assert run.makespan < 1.05 * max(sum(durations) / 4, *durations)


def test_sorted_durations_end_near_the_ideal() -> None:
    rng = random.Random(8)
    durations = sorted(rng.lognormvariate(-5, 1.5) for _ in range(2000))
    run = Simulation(durations, 4)

    assert run.makespan < 1.10 * max(sum(durations) / 4, *durations)


def test_an_explicit_size_is_kept_exactly() -> None:
    run = Simulation([0.0001] * 1003, 2, chunksize=100)

    assert run.sizes == [100] * 10 + [3]


def test_the_window_is_small_for_long_chunks_and_grows_for_tiny_ones() -> None:
    assert Simulation([1.0] * 50, 2, chunksize=1).largest_backlog == 6
    assert Simulation([1e-6] * 50_000, 2, chunksize=1).largest_backlog == 4096


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_chunk_size_below_one_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"Chunksize must be 1\+, not {wrong}"):
        check_chunksize(wrong)


def test_a_chunk_size_must_be_an_integer() -> None:
    with pytest.raises(TypeError):
        check_chunksize(2.5)


def test_pace_forgets_a_slow_first_call() -> None:
    pace = Pace()
    pace.observe(1, 1.0)
    for _ in range(30):
        pace.observe(1, 1e-6)

    assert pace.items_worth(1.0) == pytest.approx(1e6, rel=0.01)


def test_pace_ignores_what_was_not_measured() -> None:
    pace = Pace()
    pace.observe(10, None)

    assert pace.items_worth(1.0) == 0


def reciprocal(value: int) -> float:
    if value == 13:
        raise SystemExit(13)
    if value == 17:
        raise StopIteration
    return 1 / value


def test_a_chunk_without_failures_is_a_plain_list() -> None:
    assert MapChunk(reciprocal)([1, 2, 4]) == [1.0, 0.5, 0.25]


def test_a_failing_item_costs_only_itself() -> None:
    outcomes = MapChunk(reciprocal)([1, 0, 2, 13, 17, 4])

    assert isinstance(outcomes, ChunkOutcomes)
    assert outcomes.values == [1.0, MISSING, 0.5, MISSING, MISSING, 0.25]
    errors = {offset: failure.revive(RemoteTraceback) for offset, failure in outcomes.failures}
    assert {offset: type(error) for offset, error in errors.items()} == {
        1: ZeroDivisionError,
        3: SystemExit,
        4: StopIteration,
    }
    assert "in reciprocal" in str(errors[1].__cause__)
    assert "_shims/chunks.py" not in str(errors[1].__cause__)


def test_without_outcomes_the_first_error_ends_the_chunk() -> None:
    with pytest.raises(ZeroDivisionError):
        MapChunk(reciprocal, outcomes=False)([1, 0, 2])


def test_star_unpacks_items() -> None:
    assert MapChunk(pow, star=True)([(2, 3), (3, 2)]) == [8, 9]


def test_a_chunk_function_travels() -> None:
    chunk = pickle.loads(pickle.dumps(MapChunk(pow, star=True)))

    assert chunk([(2, 5)]) == [32]
