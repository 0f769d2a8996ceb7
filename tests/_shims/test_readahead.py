from __future__ import annotations

from scalepool._shims.chunks import LARGEST_WINDOW
from scalepool._shims.readahead import ReadAhead


def test_a_buffer_size_is_exact() -> None:
    ahead = ReadAhead(5, workers=2, chunksize=1)
    assert ahead.chunks_of_room() == 5
    ahead.pulled = 5
    assert ahead.chunks_of_room() == 0
    ahead.consumed = 2
    assert ahead.chunks_of_room() == 2


def test_one_chunk_is_always_allowed_when_nothing_is_ahead() -> None:
    ahead = ReadAhead(1, workers=2, chunksize=10)
    assert ahead.chunks_of_room() == 1
    ahead.pulled = 10
    assert ahead.chunks_of_room() == 0
    assert not ahead.may_resume()
    ahead.consumed = 10
    assert ahead.may_resume()


def test_the_default_is_four_chunks_per_worker_and_grows_for_tiny_tasks_only() -> None:
    ahead = ReadAhead(None, workers=2, chunksize=3)
    assert ahead.limit == 24
    ahead.pace.observe(3, 3.0)
    assert ahead.limit == 24
    for _ in range(40):
        ahead.pace.observe(3, 3e-4)
    assert 380 <= ahead.limit <= 410  # 20 ms on each of two workers
    for _ in range(60):
        ahead.pace.observe(3, 3e-7)
    assert ahead.limit == 4096


def test_a_waiting_feeder_resumes_with_a_quarter_of_the_window() -> None:
    ahead = ReadAhead(100, workers=2, chunksize=1)
    ahead.pulled = 100
    ahead.consumed = 24
    assert ahead.chunks_of_room() == 24
    assert not ahead.may_resume()
    ahead.consumed = 26
    assert ahead.may_resume()


def test_large_results_keep_the_window_small() -> None:
    ahead = ReadAhead(None, workers=2, chunksize=1)
    ahead.pace.observe(100, 100e-6, 100 * 50)
    assert ahead.limit == LARGEST_WINDOW
    ahead.pace.observe(1000, 1000e-6, 1000 * 64 * 1024)
    assert 8 < ahead.limit <= 140  # eight megabytes
    ahead.pace.observe(1000, 1000e-6, 1000 * 64 * 1024 * 1024)
    assert ahead.limit == 8  # never below four per worker
