"""Asks ``nvidia-smi`` how many GPUs there are, for hosts whose driver shows none under ``/proc``."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

__all__ = ["asked_gpus"]

_TIMEOUT_S: Final = 10.0
_WINDOWS_DEVICE: Final = "/dev/dxg"


def asked_gpus(command: str | None = None, device: str = _WINDOWS_DEVICE) -> int:
    """Return how many GPUs ``nvidia-smi -L`` lists; 0 where it fails, or where this is no Linux inside of Windows.

    Elsewhere what is under ``/proc`` is all there is, and the command, which takes a second, is not run.
    """
    if not os.path.exists(device):  # noqa: PTH110 - pathlib is a heavy import
        return 0
    command = command or shutil.which("nvidia-smi") or "/usr/lib/wsl/lib/nvidia-smi"
    try:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0
