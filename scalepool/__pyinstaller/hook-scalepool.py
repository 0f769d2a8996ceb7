"""Of the package, PyInstaller takes along the modules that are loaded by name, when they are first needed."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules(
    "scalepool", filter=lambda name: name.split(".")[1:2] not in (["bench"], ["cli"], ["__pyinstaller"])
)
