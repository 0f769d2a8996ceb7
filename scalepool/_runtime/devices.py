"""The GPUs of a session, by the names that CUDA is told."""

from __future__ import annotations

import os
from typing import Final

from scalepool._base.gpus import VISIBLE, gpu_names, gpus_of_host

__all__ = ["session_gpus"]

_WINDOWS_DEVICE: Final = "/dev/dxg"


def session_gpus(wanted: int | None) -> list[str]:
    """Return the GPUs that a session may lend.

    Parameters
    ----------
    wanted
        How many the user says there are; ``None``: all that this process may see.

    Raises
    ------
    ValueError
        When ``CUDA_VISIBLE_DEVICES`` leaves fewer than that.
    """
    names = gpu_names()
    if names is not None:
        if wanted is not None and wanted > len(names):
            raise ValueError(f"num_gpus={wanted}, but {VISIBLE}={os.environ[VISIBLE]!r} leaves {len(names)}")
        return names[:wanted]
    count = wanted
    if count is None:
        count = gpus_of_host()
        if not count and os.path.exists(_WINDOWS_DEVICE):  # noqa: PTH110 - pathlib is a heavy import
            from scalepool._proc.nvidia import asked_gpus

            count = asked_gpus()
    return [str(number) for number in range(count)]
