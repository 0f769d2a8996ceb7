"""Verdicts and losses as bytes."""

from __future__ import annotations

import struct

import pytest

from scalepool._wire.verdict import (
    MAX_ARGUMENT_BYTES,
    Loss,
    pack_losses,
    pack_report,
    pack_verdict,
    unpack_losses,
    unpack_verdict,
)


def test_all_parts_come_back() -> None:
    verdict = unpack_verdict(pack_verdict({"pid": 5, "exitcode": None}, pack_report({"oom": "yes"}), b"\x80arguments"))
    assert verdict.facts == {"pid": 5, "exitcode": None}
    assert verdict.report == {"oom": "yes"}
    assert verdict.arguments == b"\x80arguments"


def test_long_arguments_stay_behind() -> None:
    assert unpack_verdict(pack_verdict({}, b"", bytes(MAX_ARGUMENT_BYTES + 1))).arguments == b""
    assert len(unpack_verdict(pack_verdict({}, b"", bytes(MAX_ARGUMENT_BYTES))).arguments) == MAX_ARGUMENT_BYTES


def test_losses_come_back_by_item() -> None:
    losses = [Loss(3, 5, b"late"), Loss(1, 3, b"")]
    assert unpack_losses(pack_losses(losses)) == {3: losses[0], 1: losses[1]}
    assert unpack_losses(b"") == {}
    with pytest.raises(struct.error):
        unpack_losses(b"too short")
