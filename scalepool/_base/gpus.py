"""Which GPUs this process may use, found without loading any library of theirs."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VISIBLE", "assigned_gpus", "gpu_names", "gpus_of_host"]

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable by which CUDA is told which GPUs to use; read once in a process, when CUDA starts."""
_NONE = ("", "-1", "NoDevFiles")


def gpu_names(environ: Mapping[str, str] | None = None) -> list[str] | None:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, as it names them; ``None`` where it is not set.

    CUDA stops at the first that is no GPU, such as -1.
    """
    text = (os.environ if environ is None else environ).get(VISIBLE)
    if text is None:
        return None
    names: list[str] = []
    for part in text.split(","):
        name = part.strip()
        if name in _NONE or name in names:
            break
        names.append(name)
    return names


def gpus_of_host(root: str = "/") -> int:
    """Return how many GPUs the driver shows to this host or container; 0 where there is no driver.

    Parameters
    ----------
    root
        Directory that stands for ``/``.
    """
    try:
        return len(os.listdir(f"{root}/proc/driver/nvidia/gpus"))  # noqa: PTH208 - pathlib is a heavy import
    except OSError:
        return 0


def assigned_gpus(names: list[str], numbers: tuple[int, ...]) -> str:
    """Return the value of ``CUDA_VISIBLE_DEVICES`` for these of the session's GPUs."""
    return ",".join(names[number] for number in numbers)
