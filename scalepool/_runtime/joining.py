"""How drivers and node agents come to a head: the link, and the word on what each side runs."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._net.curve import Peer
from scalepool._wire.codec import MAX_MESSAGE_BYTES
from scalepool._wire.handshake import Introduction, decode_introduction, differences, encode_introduction
from scalepool._wire.messages import WIRE_VERSION
from scalepool.errors import ProtocolError, SessionError

if TYPE_CHECKING:
    from scalepool._net.keys import ClusterKeys

__all__ = ["LINK_MESSAGE_BYTES", "introduction", "join"]

LINK_MESSAGE_BYTES: Final = MAX_MESSAGE_BYTES + 4096
"""The largest message between the processes of a cluster: one to or from a worker, with what is around it."""


def introduction(cluster: str) -> Introduction:
    """Return what this process is, for a link of this cluster."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    cloudpickle = ".".join(version("cloudpickle").split(".")[:2])
    return Introduction(WIRE_VERSION, python, cloudpickle, os.uname().nodename, cluster)


def join(address: str, keys: ClusterKeys, role: str, *, timeout_s: float) -> Peer:
    """Connect to the head at ``address``, and make sure that both sides go together.

    Raises
    ------
    AuthenticationError
        When the head does not let us in, or has another key.
    SessionError
        When nobody answers, or its versions and ours do not go together.
    """
    deadline = monotonic_s() + timeout_s
    peer = Peer(address, keys, role, max_message_bytes=LINK_MESSAGE_BYTES, timeout_s=timeout_s)
    try:
        own = introduction(keys.cluster)
        peer.send(encode_introduction(own))
        answer: list[bytes] = []
        while not answer:
            left_s = deadline - monotonic_s()
            if left_s <= 0:
                raise SessionError(f"the head at {address} does not answer within {timeout_s:g} seconds")
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
    return peer
