"""Which host a worker is put on."""

from __future__ import annotations

from scalepool._core.placement import Placement
from scalepool._wire.cluster import Offer


def test_workers_go_where_the_smallest_share_is_in_use() -> None:
    placement = Placement()
    assert placement.take() is None
    small = placement.join(1, b"s", Offer(2, 100, b"small"))
    large = placement.join(2, b"l", Offer(6, 100, b"large"))
    places = [placement.take() for _ in range(8)]
    assert (places.count(small), places.count(large)) == (2, 6)
    placement.give_back(small)
    assert placement.take() is small
    placement.lose(large)
    assert placement.take() is small
    assert small.load == 3
