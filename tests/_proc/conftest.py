from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _proc.helpers import Family

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def session_dir(tmp_path: Path) -> Path:
    path = tmp_path / "session"
    path.mkdir(mode=0o700)
    (path / "hub.sock").touch()
    return path


@pytest.fixture
def family(session_dir: Path) -> Iterator[Family]:
    family = Family(session_dir)
    yield family
    family.close()
