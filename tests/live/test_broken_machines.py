"""``scalepool doctor`` on machines where something is missing or broken: a finding with a remedy, never a traceback."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from live.helpers import ROOT

pytestmark = pytest.mark.live

DOCTOR = f"{sys.executable} -m scalepool doctor --json"
#: A /dev with little in it, among that no shm.
BARE_DEV = (
    "mount -t tmpfs tmpfs $SCRATCH && for name in null zero urandom random tty; do touch $SCRATCH/$name && "
    "mount --bind /dev/$name $SCRATCH/$name; done; ln -s /proc/self/fd $SCRATCH/fd; mount --move $SCRATCH /dev; "
)
#: Runs a command for which some system calls do not exist.
WITHOUT = """
import ctypes, os, struct, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
def step(code, yes, no, value): return struct.pack("HBBI", code, yes, no, value)
program = step(0x20, 0, 0, 0)
for index, number in enumerate(numbers):
    program += step(0x15, len(numbers) - index, 0, number)
program += step(0x06, 0, 0, 0x7FFF0000) + step(0x06, 0, 0, 0x00050000 | 38)
steps = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
wanted = Filter(len(program) // 8, ctypes.addressof(steps))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(wanted), 0, 0):
    sys.exit(77)
os.execvp(sys.argv[2], sys.argv[2:])
"""
MEMFD_CREATE, PIDFD_OPEN = 319, 434
"""Their numbers on x86-64."""


def examined(
    tmp_path: Path, shell: str, *, private: bool = False, environ: dict[str, str] | None = None
) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run doctor in a shell, in a mount namespace if it is to be private; return its exit code and findings."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    if private and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    path = os.pathsep.join(filter(None, [(environ or {}).get("FIRST", ""), str(ROOT)]))
    own = {"PYTHONPATH": path, "HOME": str(home), "SCRATCH": str(scratch)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SCALEPOOL_")}
    done = subprocess.run(
        [*(["unshare", "-m"] if private else []), "sh", "-c", shell],
        env={**kept, **own, **(environ or {})}, capture_output=True, text=True, timeout=300, cwd="/", check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    if done.returncode == 77:
        pytest.skip("system calls cannot be filtered here")
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert all(bool(one["remedy"]) == (one["level"] != "ok") for one in findings)
    return done.returncode, {one["subject"]: (one["level"], one["text"]) for one in findings}


def test_no_dev_shm(tmp_path: Path) -> None:
    code, found = examined(tmp_path, BARE_DEV + DOCTOR, private=True)
    assert (code, found["/dev/shm"][0], found["trial"][0]) == (0, "hint", "ok")


def test_a_tiny_dev_shm(tmp_path: Path) -> None:
    code, found = examined(tmp_path, f"mount -t tmpfs -o size=64k tmpfs /dev/shm; {DOCTOR}", private=True)
    assert (code, found["/dev/shm"][0], found["trial"][0]) == (0, "hint", "ok")


def test_a_folder_for_temporary_files_that_cannot_be_written(tmp_path: Path) -> None:
    shell = f"mount -t tmpfs -o ro tmpfs $SCRATCH; HOME=$SCRATCH TMPDIR=$SCRATCH {DOCTOR}"
    code, found = examined(tmp_path, shell, private=True)
    assert (code, found["temporary folder"][0], found["trial"][0]) == (0, "hint", "ok")
    assert "scratch" in found["temporary folder"][1]


def test_no_folder_for_temporary_files_at_all(tmp_path: Path) -> None:
    read_only = "for at in /var/tmp /dev/shm $SCRATCH; do mount -t tmpfs -o ro tmpfs $at; done; "
    shell = f"{read_only} mount --bind /tmp /tmp; mount -o remount,ro,bind /tmp; cd $SCRATCH; unset TMPDIR; {DOCTOR}"
    code, found = examined(tmp_path, shell, private=True)
    assert (code, found["temporary folder"][0], found["trial"][0]) == (1, "problem", "problem")


@pytest.mark.parametrize(("limit", "trial"), [(24, "ok"), (12, "problem")])
def test_few_descriptors(tmp_path: Path, limit: int, trial: str) -> None:
    code, found = examined(tmp_path, f"ulimit -n {limit}; {DOCTOR}")
    assert (code, found["open files"][0], found["trial"][0]) == (1, "problem", trial)


def test_no_proc(tmp_path: Path) -> None:
    code, found = examined(tmp_path, f"mount -t tmpfs tmpfs /proc; {DOCTOR}", private=True)
    assert (code, found["/proc"][0], found["trial"][0]) == (1, "problem", "ok")


@pytest.mark.parametrize(
    ("number", "subject", "level", "trial"),
    [(MEMFD_CREATE, "shared memory", "hint", "ok"), (PIDFD_OPEN, "pidfd", "problem", "problem")],
)
def test_system_calls_that_are_not_allowed(tmp_path: Path, number: int, subject: str, level: str, trial: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the numbers of system calls are those of x86-64")
    program = tmp_path / "without.py"
    program.write_text(WITHOUT)
    _, found = examined(tmp_path, f"{sys.executable} {program} {number} {DOCTOR}")
    assert (found[subject][0], found["trial"][0]) == (level, trial)
    if trial != "ok":
        assert "pidfd_open" in found["trial"][1]


@pytest.mark.parametrize("package", ["pyzmq", "psutil", "cloudpickle", "joblib", "numpy"])
def test_a_package_that_cannot_be_loaded(tmp_path: Path, package: str) -> None:
    module = {"pyzmq": "zmq"}.get(package, package)
    (tmp_path / f"{module}.py").write_text('raise ImportError("libmissing.so: no such file")\n')
    code, found = examined(tmp_path, f"{DOCTOR} --no-trial", environ={"FIRST": str(tmp_path)})
    assert (code, found[package][0]) == (1, "problem")
    assert "libmissing" in found[package][1]


def test_an_address_without_anybody_does_not_matter_for_the_trial(tmp_path: Path) -> None:
    code, found = examined(tmp_path, DOCTOR, environ={"SCALEPOOL_ADDRESS": "tcp://127.0.0.1:9"})
    assert (code, found["cluster"][0], found["trial"][0]) == (1, "problem", "ok")
