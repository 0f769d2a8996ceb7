from __future__ import annotations

from scalepool._store.recycle import RecycleLimits, RecyclePool, Segment

KIB = 1024


def idle(fd: int, capacity: int = 64 * KIB, written: int = 10) -> Segment:
    return Segment(fd, capacity, written_bytes=written)


def test_the_newest_segment_of_the_class_is_taken_first() -> None:
    pool = RecyclePool(RecycleLimits())
    old, new, other = idle(1), idle(2), idle(3, 512 * KIB)
    for segment in (old, new, other):
        assert pool.put(segment) == []
    assert [pool.take(64 * KIB), pool.take(64 * KIB), pool.take(64 * KIB)] == [new, old, None]
    assert (len(pool), pool.idle_bytes, pool.open_fds) == (1, 10, 1)


def test_a_class_below_twice_the_size_will_do() -> None:
    pool = RecyclePool(RecycleLimits())
    larger = idle(1, 112 * KIB)
    pool.put(idle(2, 128 * KIB))
    pool.put(larger)
    assert pool.take(64 * KIB) is larger
    assert pool.take(64 * KIB) is None
    assert pool.take(1024 * KIB) is None


def test_the_oldest_go_when_count_or_bytes_are_exceeded() -> None:
    pool = RecyclePool(RecycleLimits(max_bytes=100, max_count=2))
    first, second, third, fat = idle(1), idle(2), idle(3), idle(4, written=95)
    assert pool.put(first) == pool.put(second) == []
    assert pool.put(third) == [first]
    assert pool.put(fat) == [second, third]
    assert pool.idle_bytes == 95


def test_a_segment_that_is_too_large_alone_does_not_drive_out_the_others() -> None:
    pool = RecyclePool(RecycleLimits(max_bytes=100))
    small, huge = idle(1), idle(2, written=101)
    assert pool.put(small) == []
    assert pool.put(huge) == [huge]
    assert pool.take_oldest() is small
    assert pool.take_oldest() is None


def test_idle_time_begins_with_the_first_look_at_the_clock() -> None:
    pool = RecyclePool(RecycleLimits(idle_s=10.0))
    first, second = idle(1), idle(2)
    pool.put(first)
    assert pool.expire(now=1000.0) == []
    pool.put(second)
    assert pool.expire(now=1009.9) == []
    assert pool.expire(now=1010.0) == [first]
    assert pool.expire(now=1019.9) == [second]
    assert len(pool) == 0


def test_being_used_again_restarts_the_idle_time() -> None:
    pool = RecyclePool(RecycleLimits(idle_s=10.0))
    segment = idle(1)
    pool.put(segment)
    pool.expire(now=0.0)
    assert pool.take(64 * KIB) is segment
    pool.put(segment)
    assert pool.expire(now=10.0) == []
    assert pool.clear() == [segment]
