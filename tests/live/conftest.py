from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.clusters import Cluster, cluster_of, used
from live.helpers import Ledger
from live.hosts import Network, why_not
from scalepool.api import WorkerGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def group() -> Iterator[WorkerGroup]:
    """Two workers of the session that all tests of this process share; they stay warm between tests."""
    group = WorkerGroup(2)
    yield group
    group.terminate()
    assert group.join(60.0)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head of the test's own; the test has hosts join it, and uses it from this process."""
    with cluster_of(tmp_path) as cluster, used(cluster, monkeypatch):
        yield cluster


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """An empty network; the test adds hosts, and all end with it."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    network = Network(tmp_path / "hosts")
    try:
        yield network
    finally:
        network.close()
