"""How much memory there is: the machine's, or less by a cgroup's limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from scalepool._base.memory import memory_bytes, private_bytes
from scalepool.config import Settings, recycle_limit_bytes

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_this_machine_has_some() -> None:
    assert memory_bytes() > GIB // 4


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64 * GIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 64 * GIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": f"{GIB}\n"}, GIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "junk\n"}, 64 * GIB),
        (
            {
                "proc/self/cgroup": "5:cpu:/j\n4:memory,x:/j\n",
                "sys/fs/cgroup/memory/j/memory.limit_in_bytes": f"{GIB}\n",
            },
            GIB,
        ),
        ({"proc/self/cgroup": "4:memory:/j\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "0\n"}, 64 * GIB),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert memory_bytes(physical_bytes=64 * GIB, root=write(tmp_path, files)) == expected


def test_what_is_kept_is_a_share_of_the_memory_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalepool.config.memory_bytes", lambda: 64 * GIB)
    assert recycle_limit_bytes(Settings()) == 16 * GIB
    assert recycle_limit_bytes(Settings(), sharers=8) == 2 * GIB
    assert recycle_limit_bytes(Settings(), sharers=0) == 16 * GIB
    assert recycle_limit_bytes(Settings(), sharers=10_000) == GIB // 4
    assert recycle_limit_bytes(Settings(recycle_limit_bytes=5), sharers=8) == 5
    assert recycle_limit_bytes(Settings(recycle_limit_bytes=0)) == 0


def test_memory_of_ones_own_is_what_is_resident_and_not_shared(tmp_path: Path) -> None:
    statm = tmp_path / "proc" / "self" / "statm"
    statm.parent.mkdir(parents=True)
    statm.write_text("5000 3000 1000 10 0 400 0\n")

    assert private_bytes(str(tmp_path)) == 2000 * os.sysconf("SC_PAGE_SIZE")
    assert private_bytes(str(tmp_path / "nothing")) == 0


def test_memory_of_ones_own_grows_with_what_is_written() -> None:
    before = private_bytes()
    ballast = bytearray(os.urandom(1 << 16)) * 512

    assert private_bytes() - before > len(ballast) // 2
