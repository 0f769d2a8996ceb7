"""``nvidia-smi`` is run only where nothing else tells, and its failures are no GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._proc.nvidia import asked_gpus

if TYPE_CHECKING:
    from pathlib import Path


def _command(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_asked_inside_of_windows_only(tmp_path: Path) -> None:
    command = _command(tmp_path / "smi", "echo 'GPU 0: Some (UUID: GPU-1)'; echo 'GPU 1: Some (UUID: GPU-2)'")

    assert asked_gpus(command, str(tmp_path)) == 2
    assert asked_gpus(command, str(tmp_path / "none")) == 0


def test_when_it_fails_there_are_none(tmp_path: Path) -> None:
    assert asked_gpus(_command(tmp_path / "smi", "echo 'GPU 0: x'; exit 9"), str(tmp_path)) == 0
    assert asked_gpus(str(tmp_path / "missing"), str(tmp_path)) == 0
