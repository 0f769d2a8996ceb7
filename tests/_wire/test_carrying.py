"""A `Carry` in a `Said` in one step: the same bytes, and the same answer to whatever comes, as in two."""

from __future__ import annotations

import random

import pytest

from scalepool._wire import cluster as c
from scalepool._wire.carrying import pack_carry, pack_said, unpack_carry
from scalepool.errors import ProtocolError


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 1000])
@pytest.mark.parametrize("numbers", [(1, 2, 3, 4, 5), (1 << 60, 0, 1 << 40, 0, 1 << 50)])
def test_the_bytes_are_those_of_the_two_messages(numbers: tuple[int, ...], data: bytes) -> None:
    session, node, number, heard, worker = numbers
    carry = pack_carry(session, worker, data)
    assert carry == c.encode(c.Carry(session, worker, data))
    said = pack_said(session, node, number, heard, carry)
    assert said == c.encode(c.Said(session, node, number, heard, carry))
    assert unpack_carry(said) == (session, node, number, heard, worker, data)


def test_other_messages_are_not_taken_for_one() -> None:
    for inner in (c.Ping(), c.Kill(1, 2, 1), c.Chunk(1, 2, 3, 4, b"data"), c.Launched(1, 2, 3)):
        assert unpack_carry(c.encode(c.Said(1, 2, 3, 4, c.encode(inner)))) is None
        assert unpack_carry(c.encode(inner)) is None
    assert unpack_carry(c.encode(c.Carry(1, 2, b"x" * 100))) is None
    assert unpack_carry(b"") is None


def test_what_is_no_message_is_none_here_either() -> None:
    rng = random.Random(7)
    good = pack_said(1, 2, 3, 4, pack_carry(1, 5, b"something"))
    refused = 0
    for _ in range(20_000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        found = unpack_carry(bytes(data))
        try:
            said = c.decode(bytes(data))
            inner = c.decode(said.data) if type(said) is c.Said else None
        except ProtocolError:
            inner = None
        if type(inner) is c.Carry:
            assert found is not None
            assert found[:4] == said[:4]
            assert found[4:] == inner[1:]
        else:
            assert found is None
            refused += 1
    assert 1000 < refused < 19_000
