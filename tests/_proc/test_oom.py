"""The kernel's counters of processes that it killed for want of memory, in made-up trees of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scalepool._proc.oom import OomWatch

if TYPE_CHECKING:
    from pathlib import Path

V2 = ("0::/box/inner\n", "sys/fs/cgroup/box/inner/memory.events", "low 0\noom 9\noom_kill {}\n")
CONTAINER = ("0::/far/away\n", "sys/fs/cgroup/memory.events", "oom_kill {}\noom_group_kill 7\n")
V1 = ("5:cpu:/x\n4:memory:/box\n", "sys/fs/cgroup/memory/box/memory.oom_control", "under_oom 0\noom_kill {}\n")


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("layout", [V2, CONTAINER, V1])
def test_a_counter_of_the_cgroup_that_grows_is_a_verdict_once(tmp_path: Path, layout: tuple[str, str, str]) -> None:
    membership, name, text = layout
    write(tmp_path, "proc/self/cgroup", membership)
    write(tmp_path, name, text.format(3))
    watch = OomWatch(str(tmp_path))
    assert watch.verdict() == ""
    write(tmp_path, name, text.format(4))
    assert "cgroup" in watch.verdict()
    assert watch.verdict() == ""


def test_a_counter_of_the_machine_is_a_verdict_too(tmp_path: Path) -> None:
    write(tmp_path, "proc/vmstat", "pgfault 5\noom_kill 1\n")
    watch = OomWatch(str(tmp_path))
    write(tmp_path, "proc/vmstat", "pgfault 5\noom_kill 2\n")
    assert "machine" in watch.verdict()


def test_without_counters_nothing_is_said(tmp_path: Path) -> None:
    watch = OomWatch(str(tmp_path))
    write(tmp_path, "proc/vmstat", "oom_kill nonsense\n")
    write(tmp_path, "proc/self/cgroup", "\n0\n:::\n")
    assert watch.verdict() == ""
