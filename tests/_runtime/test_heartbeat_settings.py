"""The heartbeats of a cluster are settled at its head, and taken over by whoever comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import zmq
from click.testing import CliRunner

from scalepool._net.curve import Heartbeats, Peer
from scalepool._net.keys import AGENT, ClusterKeys
from scalepool._runtime.head import Head
from scalepool._runtime.joining import join
from scalepool.cli.root import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = ClusterKeys.generate()
SLOW = Heartbeats(2.0, 9.0)


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    head = Head("127.0.0.1", 0, KEYS, lambda text: None, request.param)
    thread = threading.Thread(target=head.run)
    thread.start()
    yield head.address
    head.stop()
    thread.join()
    head.close()


def beats(peer: Peer) -> tuple[float, float]:
    get = peer._socket.getsockopt
    return get(zmq.HEARTBEAT_IVL) / 1000, get(zmq.HEARTBEAT_TIMEOUT) / 1000  # type: ignore[operator]


@pytest.mark.parametrize("served", [Heartbeats(), SLOW], indirect=True)
def test_who_joins_beats_as_the_head_does(served: str, request: pytest.FixtureRequest) -> None:
    peer = join(served, KEYS, AGENT, timeout_s=30.0)
    assert beats(peer) == request.node.callspec.params["served"]
    assert peer.links == 1
    peer.flush_and_close()


def test_heartbeats_that_cannot_be_are_refused_where_they_are_given(tmp_path: Path) -> None:
    refused = CliRunner().invoke(
        program, ["head", "--cluster-file", str(tmp_path / "c"), "--heartbeat-timeout-s", "1"],
        env={"SCALEPOOL_HEARTBEAT_INTERVAL_S": "2"},
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "--heartbeat-timeout-s must be longer" in refused.output
