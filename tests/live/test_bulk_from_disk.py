"""Large data that lies on a disk."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scalepool
from live.clusters import until
from scalepool._runtime.session import current

if TYPE_CHECKING:
    from live.clusters import Cluster

pytestmark = [pytest.mark.live, pytest.mark.slow]
pytest.importorskip("cryptography", reason="which makes the certificates")

MIB = 1 << 20


@scalepool.remote
def marks(array: Any, seconds: float = 0.0) -> tuple[str, int, int]:
    """Where it ran, what is at the beginning of each MiB, as one number, and at the end."""
    time.sleep(seconds)
    found = sum(int(array[at]) * (1 + at // MIB) for at in range(0, len(array), MIB))
    return os.environ["SCALEPOOL_TEST_HOST"], found, int(array[-1])


def test_what_lies_on_the_disk_of_its_owner_is_sent_from_there(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        cluster.join(name, 1)
    monkeypatch.setenv("SCALEPOOL_STORE_LIMIT_BYTES", str(64 * MIB))
    scalepool.init(cluster.address)
    arrays = [np.random.default_rng(seed).integers(0, 200, 16 * MIB, np.uint8) for seed in range(8)]
    refs = [scalepool.put(array) for array in arrays]
    objects = current().hub._state.objects  # type: ignore[union-attr]
    until(lambda: sum(record.spilled for _, record in objects.items()) >= 3)
    expected = [sum(int(array[at]) * (1 + at // MIB) for at in range(0, len(array), MIB)) for array in arrays]
    for _ in range(2):  # from memory or from disk, which they come to and go from, on either host
        found = scalepool.get([marks.remote(ref, 0.1) for ref in refs])
        assert [answer[1] for answer in found] == expected
    assert {answer[0] for answer in found} == {"one", "two"}
