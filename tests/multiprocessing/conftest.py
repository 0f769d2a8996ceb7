from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of two workers; they stay warm between tests."""
    pool = Pool(2)
    yield pool
    pool.terminate()
    pool.join()
