"""What PyInstaller has to know of this package; it finds this by the entry point ``pyinstaller40``."""

from __future__ import annotations

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """Return the folder of the hook."""
    return list(__path__)
