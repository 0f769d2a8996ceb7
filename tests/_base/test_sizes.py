from __future__ import annotations

import pytest

from scalepool._base.sizes import size_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (7, 7), ("7", 7), (" 7 B ", 7), ("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("1.5GiB", 3 << 29), ("64k", 1 << 16),
        ("3M", 3 << 20), ("1e3 KB", 10**6), ("1T", 1 << 40), ("0.5TB", 5 * 10**11),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert size_bytes(text, "limit") == size


@pytest.mark.parametrize("text", ["", "GB", "two", "2 XB", "2 GBB", "1 0", "inf", "nan", "-3", "0", 0, -1, "0.1"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        size_bytes(text, "limit")


@pytest.mark.parametrize("thing", [None, 1.5, True, b"2GB"])
def test_what_could_not_be_one(thing: object) -> None:
    with pytest.raises(TypeError, match="limit must be a number of bytes"):
        size_bytes(thing, "limit")
