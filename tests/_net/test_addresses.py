from __future__ import annotations

import errno

import pytest

from scalepool._net.addresses import split_endpoint, why_nobody_answers, why_not_here
from scalepool.errors import SessionError


@pytest.mark.parametrize(
    ("address", "parts"),
    [("tcp://h1:7877", ("h1", 7877)), ("tcp://[fd00::1]:1", ("fd00::1", 1))],
)
def test_addresses_have_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_endpoint(address) == parts


@pytest.mark.parametrize(
    "address", ["", "h1:7877", "http://h1:1", "tcp://h1", "tcp://:7877", "tcp://h1:99999", "tcp://h1:x", "tcp://h1:1/x"]
)
def test_others_are_none(address: str) -> None:
    with pytest.raises(SessionError, match="it has the form tcp://host:port"):
        split_endpoint(address)


def test_a_name_that_nobody_knows_is_told_from_a_head_that_does_not_run() -> None:
    assert why_nobody_answers("tcp://127.0.0.1:7877", 4.99999) == (
        "nobody answers at tcp://127.0.0.1:7877 within 5 seconds; does the head run?"
    )
    assert "'tcp://no-such-host.invalid:7877' cannot be looked up" in why_nobody_answers(
        "tcp://no-such-host.invalid:7877", 5.0
    )


def test_where_nobody_can_listen_the_remedy_is_told() -> None:
    assert why_not_here(errno.EADDRINUSE) == (
        "Address already in use; something listens there already: end it, or take another port"
    )
    assert why_not_here(errno.EADDRNOTAVAIL).endswith("it is no address of this host")
    assert why_not_here(errno.ENOBUFS) == "No buffer space available"
