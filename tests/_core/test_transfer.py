from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._core.transfer import Transfer
from scalepool.errors import ProtocolError


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 9), st.randoms())
def test_every_byte_is_asked_for_once_whatever_order_it_comes_in(
    size: int, chunk: int, window: int, rng: object
) -> None:
    transfer = Transfer(size, chunk, window)
    due: list[tuple[int, int]] = []
    seen: list[int] = []
    while not transfer.complete:
        due += transfer.requests()
        assert 0 < len(due) <= window
        offset, length = due.pop(rng.randrange(len(due)))  # type: ignore[attr-defined]
        transfer.arrived(offset, length)
        seen.extend(range(offset, offset + length))
    assert not due
    assert sorted(seen) == list(range(size))


def test_what_nobody_asked_for_is_refused() -> None:
    transfer = Transfer(100, 10, 2)
    transfer.requests()
    for offset, length in ((20, 10), (0, 9), (5, 10)):
        with pytest.raises(ProtocolError):
            transfer.arrived(offset, length)
    transfer.arrived(0, 10)
    with pytest.raises(ProtocolError):
        transfer.arrived(0, 10)
