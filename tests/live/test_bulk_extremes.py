"""Large data where it is hardest: more than 2 GiB, and over a network that is gone for half a minute."""

from __future__ import annotations

import os
import ssl
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

import scalepool
from live.clusters import LONG_S, until
from live.hosts import HostCluster
from scalepool._runtime.session import current

if TYPE_CHECKING:
    from live.clusters import Cluster
    from live.hosts import Network

pytestmark = [pytest.mark.live, pytest.mark.slow]
pytest.importorskip("cryptography", reason="which makes the certificates")

MIB = 1 << 20
HUGE_BYTES = (1 << 31) + 12_345
NEEDED_BYTES = 6 * HUGE_BYTES
"""The program's array, and a copy with the program and with each of two hosts; and as much again for other tests."""


@scalepool.remote
def marks(array: Any, seconds: float = 0.0) -> tuple[str, int, int]:
    """Where it ran, what is at the beginning of each MiB, as one number, and at the end."""
    time.sleep(seconds)
    found = sum(int(array[at]) * (1 + at // MIB) for at in range(0, len(array), MIB))
    return os.environ["SCALEPOOL_TEST_HOST"], found, int(array[-1])


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    psutil.virtual_memory().available < NEEDED_BYTES, reason=f"needs {NEEDED_BYTES >> 30} GiB of free memory"
)
def test_an_object_of_more_than_two_gib_goes_from_host_to_host(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    send = ssl.SSLSocket.sendall

    def counted(link: ssl.SSLSocket, data: Any, flags: int = 0) -> None:
        sent.append(len(data))
        send(link, data, flags)

    monkeypatch.setattr(ssl.SSLSocket, "sendall", counted)
    for name in ("one", "two"):
        cluster.join(name, 1)
    scalepool.init(cluster.address)
    until(lambda: len({host for host, *_ in scalepool.get([marks.remote(np.ones(1), 0.3) for _ in range(2)])}) == 2)
    until(lambda: len(current()._direct._addresses) == 2)  # type: ignore[union-attr]  # both listen
    array = np.zeros(HUGE_BYTES, np.uint8)
    array[::MIB] = np.arange(len(array[::MIB]), dtype=np.uint8) + 1
    array[-1] = 77
    numbers = array[::MIB].astype(int)
    expected = (int((numbers * np.arange(1, len(numbers) + 1)).sum()), 77)
    there = scalepool.put(array)
    del array
    answers = scalepool.get([marks.remote(there, 0.3) for _ in range(2)])
    assert {host for host, *_ in answers} == {"one", "two"}
    assert [tuple(answer[1:]) for answer in answers] == [expected] * 2
    assert HUGE_BYTES < sum(sent) < 1.1 * HUGE_BYTES  # the second host had it from the first


CUT_S = 30.0

PARTED = """
import sys, time
import numpy as np
import scalepool

@scalepool.remote(max_retries=int(sys.argv[1]))
def total(array, number):
    with open("/tmp/ledger", "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.05)
    return float(array.sum()) + number

if __name__ == "__main__":
    array = np.random.default_rng(1).random(500_000)
    early = scalepool.get(total.remote(array[:10], 1000))
    there = scalepool.put(array)
    refs = [total.remote(there, number) for number in range(800)]
    print("begun", flush=True)
    print(scalepool.get(refs) == [float(array.sum()) + number for number in range(800)], flush=True)
    late = np.random.default_rng(2).random(3_000_000)
    print(scalepool.get(total.remote(late, 1)) == float(late.sum()) + 1, flush=True)
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("grace", [True, False])
def test_a_host_whose_cable_is_pulled_for_half_a_minute_is_back(network: Network, grace: bool) -> None:
    cluster = HostCluster(network, *(["--host-grace-s", "120"] if grace else []))
    one, two, user = (network.host(name) for name in ("one", "two", "user"))
    for host in (one, two):
        cluster.join(host, 1, "--reconnect", "120")
    # Without patience tasks of the lost host are run again elsewhere; with it nothing has to be.
    program = cluster.program(user, PARTED, "0" if grace else "2")
    assert program.line() == "begun", program.said()
    until(lambda: all(host.path("/tmp/ledger").exists() for host in (one, two)))
    network.cut(one)
    time.sleep(CUT_S)
    network.heal(one)
    assert program.line() == "True", program.said()
    until(lambda: "joined anew" in cluster.agents["one"].said() or "is back" in cluster.agents["one"].said())
    assert program.line() == "True", program.said()
    assert program.wait(LONG_S) == 0, program.said()
    ran = [line for host in (one, two) for line in host.path("/tmp/ledger").read_text().split()]
    assert {int(line) for line in ran} == {*range(800), 1000}
    if grace:
        assert len(ran) == 802  # each once; there are two with the number 1
