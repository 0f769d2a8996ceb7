"""A fresh exchange for each test, so that no test sees what another one sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalepool._wire.pickling.exchange import Exchange, install

sys.path.insert(0, str(Path(__file__).parent))  # peer.py and scripts.py


@pytest.fixture(autouse=True)
def exchange() -> Iterator[Exchange]:
    fresh = Exchange(7)
    previous = install(fresh)
    yield fresh
    install(previous)
