"""What ``scalepool doctor`` says of the cluster that programs of this user would find: its keys, and if it is there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scalepool._net.addresses import split_endpoint
from scalepool._net.keys import KEY_FILE_VARIABLE, read_keys, usual_key_file
from scalepool.cli.checks import Finding
from scalepool.cli.clusters import ADDRESS_VARIABLE, cluster_file, read_file
from scalepool.errors import ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ClusterFacts", "look_for_cluster", "of_cluster"]

_CONNECT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What there is of a cluster.

    Attributes
    ----------
    keys, keys_error
        Path of the key file, empty where there is none; and why it cannot be used, or empty.
    wanted, wanted_error
        The address in the environment, empty where there is none; and why nobody is reached there, or empty.
    noted, noted_address, noted_error
        The same of the file that a head has written: its path, what it says, what is wrong with that.
    """

    keys: str = ""
    keys_error: str = ""
    wanted: str = ""
    wanted_error: str = ""
    noted: str = ""
    noted_address: str = ""
    noted_error: str = ""


def look_for_cluster() -> ClusterFacts:
    """Look for keys and addresses where programs do, and whether somebody listens there."""
    keys, keys_error = os.environ.get(KEY_FILE_VARIABLE, "").strip() or usual_key_file(), ""
    if os.environ.get(KEY_FILE_VARIABLE, "").strip() or os.path.lexists(keys):
        try:
            read_keys(keys)
        except ScalepoolError as error:
            keys_error = str(error)
    else:
        keys = ""
    wanted = os.environ.get(ADDRESS_VARIABLE, "").strip()
    wanted = "" if wanted == "local" else wanted
    path, address, noted_error = cluster_file(), "", ""
    is_noted = os.path.lexists(path)
    if is_noted:
        try:
            address = read_file(path)["address"]
        except ScalepoolError as error:
            noted_error = str(error)
        else:
            noted_error = _why_silent(address)
    wanted_error = _why_silent(wanted) if wanted else ""
    return ClusterFacts(keys, keys_error, wanted, wanted_error, str(path) if is_noted else "", address, noted_error)


def of_cluster(facts: ClusterFacts) -> Iterator[Finding]:
    """Judge it; most users have no cluster, and are told nothing."""
    if facts.keys_error:
        is_open = "chmod 600" in facts.keys_error
        remedy = f"chmod 600 {facts.keys}" if is_open else "scalepool keys new, or copy the cluster's key file again"
        yield Finding("cluster keys", "problem", facts.keys_error, remedy)
    elif facts.keys:
        yield Finding("cluster keys", "ok", facts.keys)
    if facts.wanted_error:
        text = f"{ADDRESS_VARIABLE} is {facts.wanted!r}, where nobody is reached: {facts.wanted_error}"
        remedy = f"start the head there (scalepool head), or unset {ADDRESS_VARIABLE} to work on this host alone"
        yield Finding("cluster", "problem", text, remedy)
    elif facts.wanted:
        yield Finding("cluster", "ok", f"somebody listens at {facts.wanted}")
    if facts.noted_error:
        text = f"{facts.noted} names a head that is not reached: {facts.noted_error}"
        yield Finding("cluster file", "hint", text, f"start it again (scalepool head), or: rm {facts.noted}")
    elif facts.noted:
        yield Finding("cluster file", "ok", f"somebody listens at {facts.noted_address}")


def _why_silent(address: str) -> str:
    """Return why nobody is reached at an address, or empty; nothing is said to who listens there."""
    try:
        host, port = split_endpoint(address)
        socket.create_connection((host, port), _CONNECT_S).close()
    except (OSError, ScalepoolError) as error:
        return str(error) or type(error).__name__
    return ""
