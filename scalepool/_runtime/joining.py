"""How drivers and node agents come to a head: the link, and the word on what each side runs."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._net.curve import Heartbeats, Peer
from scalepool._wire.codec import MAX_MESSAGE_BYTES
from scalepool._wire.handshake import Introduction, decode_introduction, differences, encode_introduction
from scalepool._wire.messages import WIRE_VERSION
from scalepool.errors import ProtocolError, SessionError

if TYPE_CHECKING:
    from scalepool._net.keys import ClusterKeys

__all__ = ["LINK_MESSAGE_BYTES", "introduction", "join"]

LINK_MESSAGE_BYTES: Final = MAX_MESSAGE_BYTES + 4096
"""The largest message between the processes of a cluster: one to or from a worker, with what is around it."""


def introduction(cluster: str, heartbeats: Heartbeats | None = None) -> Introduction:
    """Return what this process is, for a link of this cluster; and, where it is the head, its heartbeats."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    cloudpickle = ".".join(version("cloudpickle").split(".")[:2])
    times_s = heartbeats or (0.0, 0.0)
    return Introduction(WIRE_VERSION, python, cloudpickle, os.uname().nodename, cluster, *times_s)


def join(address: str, keys: ClusterKeys, role: str, *, timeout_s: float) -> Peer:
    """Connect to the head at ``address``, and make sure that both sides go together.

    The heartbeats of the link are those that the head wants.

    Raises
    ------
    AuthenticationError
        When the head does not let us in, or has another key.
    SessionError
        When nobody answers, or its versions and ours do not go together.
    """
    deadline = monotonic_s() + timeout_s
    peer, wanted = _linked(address, keys, role, Heartbeats(), deadline)
    if wanted not in (Heartbeats(), (0.0, 0.0)):
        # They are settled where a link comes to be.
        peer.flush_and_close()
        peer, _ = _linked(address, keys, role, wanted, deadline)
    return peer


def _linked(
    address: str, keys: ClusterKeys, role: str, heartbeats: Heartbeats, deadline_s: float
) -> tuple[Peer, Heartbeats]:
    timeout_s = max(0.0, deadline_s - monotonic_s())
    peer = Peer(
        address, keys, role, max_message_bytes=LINK_MESSAGE_BYTES, timeout_s=timeout_s, heartbeats=heartbeats
    )  # fmt: skip
    try:
        own = introduction(keys.cluster)
        peer.send(encode_introduction(own))
        answer: list[bytes] = []
        while not answer:
            left_s = deadline_s - monotonic_s()
            if left_s <= 0:
                raise SessionError(f"the head at {address} does not answer within {timeout_s:.3g} seconds")
            if peer.poll(left_s):
                peer.receive_into(answer.append)
        try:
            head = decode_introduction(answer[0])
        except ProtocolError as error:
            raise SessionError(f"what listens at {address} speaks another language: {error}") from None
        table = differences([("here", own), (f"head ({head.host})", head)])
        if table:
            raise SessionError(f"the head at {address} runs other versions; install the same on both sides:\n{table}")
    except BaseException:
        peer.flush_and_close()
        raise
    return peer, Heartbeats(head.heartbeat_interval_s, head.heartbeat_timeout_s)
