"""A task closes descriptors that are not its own: its worker ends, is replaced, and nobody waits for ever."""

from __future__ import annotations

import os
import time

import pytest

from scalepool.errors import WorkerDiedError
from scalepool.multiprocessing import Pool

pytestmark = pytest.mark.live


def close_all(first: int, seconds: float) -> str:
    os.closerange(first, 256)
    time.sleep(seconds)
    return "closed"


def same(value: int) -> int:
    return value


def large(size_bytes: int) -> bytes:
    return bytes(size_bytes)


@pytest.mark.parametrize("first", [0, 3])
def test_others_are_not_hurt_by_a_task_that_closes_everything(first: int) -> None:
    with Pool(2) as pool:
        before = [pool.apply_async(same, (number,)) for number in range(10)]
        closes = pool.apply_async(close_all, (first, 0.0))
        after = [pool.apply_async(same, (number,)) for number in range(10)]
        try:
            assert closes.get(60.0) == "closed"  # it had ended when its worker found out
        except WorkerDiedError as error:
            assert error.task == "close_all"
        assert [call.get(60.0) for call in before + after] == [*range(10), *range(10)]
        assert pool.map(len, pool.map(large, [3_000_000] * 3)) == [3_000_000] * 3


@pytest.mark.parametrize("first", [0, 3])
def test_a_task_that_goes_on_after_that_is_blamed(first: int) -> None:
    with Pool(2) as pool:
        closes = pool.apply_async(close_all, (first, 600.0))
        others = [pool.apply_async(same, (number,)) for number in range(20)]
        with pytest.raises(WorkerDiedError) as caught:
            closes.get(60.0)
        assert caught.value.task == "close_all"
        assert [call.get(60.0) for call in others] == list(range(20))
