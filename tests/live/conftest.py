from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.helpers import Ledger
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
