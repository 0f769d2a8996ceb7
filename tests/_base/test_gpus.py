"""GPUs are found by what the environment and the driver say; there is none here, so all is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scalepool._base.gpus import VISIBLE, assigned_gpus, gpu_names, gpus_of_host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2,5", ["2", "5"]),
        (" 0 , 1 ", ["0", "1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),
        ("0,1,0", ["0", "1"]),
        ("GPU-8932f937-d72c,MIG-GPU-1/2/3", ["GPU-8932f937-d72c", "MIG-GPU-1/2/3"]),
    ],
)
def test_what_the_environment_leaves(text: str, names: list[str]) -> None:
    assert gpu_names({VISIBLE: text}) == names


def test_an_environment_that_says_nothing() -> None:
    assert gpu_names({}) is None


def test_the_driver_is_asked_by_its_files(tmp_path: Path) -> None:
    assert gpus_of_host(str(tmp_path)) == 0
    for bus in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / bus).mkdir(parents=True)
    assert gpus_of_host(str(tmp_path)) == 2


def test_a_task_is_told_its_own_by_their_names() -> None:
    assert assigned_gpus(["2", "GPU-89", "7"], (0, 1)) == "2,GPU-89"
    assert assigned_gpus(["2"], ()) == ""
