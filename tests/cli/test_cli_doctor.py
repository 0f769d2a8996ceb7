from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scalepool.cli import doctor as doctor_module
from scalepool.cli import leftovers
from scalepool.cli.checks import Finding, examine, of_leftovers, of_trial
from scalepool.cli.doctor import doctor
from scalepool.cli.facts import Facts, gather
from scalepool.cli.leftovers import Leftovers

GIB = 1 << 30
GOOD = Facts(
    cpus=8,
    cpus_reason="affinity",
    machine_cpus=8,
    memory_bytes=16 * GIB,
    physical_bytes=16 * GIB,
    nofile=1024,
    nofile_hard=4096,
    shm_bytes=8 * GIB,
    temporary="/tmp",
    temporary_free_bytes=GIB,
    versions={"pyzmq": "27.3.0", "cloudpickle": "3.1.2", "joblib": "1.6.0", "psutil": "7.2.2", "numpy": None},
)


def level(findings: list[Finding], subject: str) -> str:
    (found,) = [finding for finding in findings if finding.subject == subject]
    assert bool(found.remedy) == (found.level != "ok")
    return found.level


def test_a_good_machine_has_nothing_to_complain_about() -> None:
    assert {finding.level for finding in examine(GOOD)} == {"ok"}


@pytest.mark.parametrize(
    ("change", "subject", "expected"),
    [
        ({"python": (3, 9, 1)}, "python", "problem"),
        ({"python": (3, 14, 0)}, "python", "hint"),
        ({"versions": {"pyzmq": "25.1.2"}}, "pyzmq", "problem"),
        ({"versions": {"pyzmq": None}}, "pyzmq", "problem"),
        ({"versions": {"cloudpickle": "3.0.0.dev1"}}, "cloudpickle", "ok"),
        ({"cpus": 2}, "CPUs", "hint"),
        ({"memory_bytes": GIB}, "memory", "hint"),
        ({"address_space_bytes": GIB}, "address space", "hint"),
        ({"shm_bytes": 64 << 20}, "/dev/shm", "hint"),
        ({"shm_bytes": None, "shm_error": "No such file or directory"}, "/dev/shm", "hint"),
        ({"has_memfd": False}, "shared memory", "hint"),
        ({"memfd_error": "Too many open files"}, "shared memory", "problem"),
        ({"proc_error": "No such file"}, "/proc", "problem"),
        ({"pidfd_error": "Function not implemented"}, "pidfd", "problem"),
        ({"nofile": 32}, "open files", "problem"),
        ({"nofile": 64}, "open files", "hint"),
        ({"nofile": 128}, "open files", "ok"),
        ({"nofile": None}, "open files", "ok"),
        ({"nproc": 4000, "processes": 100}, "processes", "ok"),
        ({"nproc": 100, "processes": 70}, "processes", "hint"),
        ({"nproc": 100, "processes": 99}, "processes", "problem"),
        ({"pids_left": 3}, "processes", "problem"),
        ({"temporary_error": "it is not writable"}, "temporary folder", "problem"),
        ({"temporary_free_bytes": 4096}, "temporary folder", "hint"),
        ({"temporary_wanted": "/full"}, "temporary folder", "hint"),
        ({"import_errors": {"pyzmq": "ImportError: libsodium"}}, "pyzmq", "problem"),
    ],
)
def test_each_trouble_is_named_with_its_remedy(change: dict[str, Any], subject: str, expected: str) -> None:
    assert level(examine(replace(GOOD, **change)), subject) == expected


def test_leftovers_and_the_trial() -> None:
    found = Leftovers(("/tmp/scalepool-0-1",), (4, 5), ())
    assert found.describe() == "1 folder, 2 processes"
    assert of_leftovers(Leftovers(), cleaned=False).level == "ok"
    assert of_leftovers(found, cleaned=False).remedy == "scalepool doctor --clean"
    assert of_leftovers(found, cleaned=True).text == "removed 1 folder, 2 processes"
    assert of_trial(0.1, "OSError: x", explained=False).remedy != of_trial(0.1, "OSError: x").remedy
    assert [of_trial(*what).level for what in ((0.2, ""), (11.0, ""), (0.1, "OSError: x"))] == ["ok", "hint", "problem"]


def test_this_machine_can_be_looked_at() -> None:
    facts = gather()
    assert facts.cpus >= 1
    assert facts.processes >= 1
    assert Path(facts.temporary).is_dir()
    assert not facts.memfd_error


def call(monkeypatch: pytest.MonkeyPatch, facts: Facts, *arguments: str) -> Any:
    monkeypatch.setattr(doctor_module, "gather", lambda: facts)
    monkeypatch.setattr(doctor_module, "find", Leftovers)
    monkeypatch.setattr(doctor_module, "try_out", lambda timeout_s: (0.1, ""))
    monkeypatch.setattr(doctor_module, "_about_clusters", list)
    return CliRunner().invoke(doctor, list(arguments))


def test_the_exit_code_tells_whether_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    good = call(monkeypatch, GOOD)
    bad = call(monkeypatch, replace(GOOD, proc_error="no such file"))

    assert (good.exit_code, good.output.splitlines()[-1]) == (0, "No problem.")
    assert (bad.exit_code, bad.output.splitlines()[-1]) == (1, "1 problem.")
    assert "PROBLEM  /proc: /proc cannot be read: no such file\n         -> mount it" in bad.output


def test_json_is_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    result = call(monkeypatch, replace(GOOD, cpus=2), "--json", "--no-trial")

    found = json.loads(result.output)
    assert (result.exit_code, found["problems"]) == (0, 0)
    assert {"subject", "level", "text", "remedy"} == set(found["findings"][0])
    assert "trial" not in {finding["subject"] for finding in found["findings"]}


def test_what_is_left_is_found_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root, shm = tmp_path / "root", tmp_path / "shm"
    root.mkdir()
    shm.mkdir()
    monkeypatch.setattr(leftovers, "folder_root", lambda: str(root))
    old = time.time() - 3600
    dead = root / f"scalepool-{os.getuid()}-00ff00ff00ff"
    dead.mkdir(mode=0o700)
    (dead / "lock").touch()
    for name in ("sem.mp-old", "sem.mp-young", "psm_other"):
        (shm / name).touch()
    for path in (dead, shm / "sem.mp-old"):
        os.utime(path, (old, old))

    found = leftovers.find(str(shm))

    assert found == Leftovers((str(dead),), (), (str(shm / "sem.mp-old"),))
    leftovers.clean(found)
    assert not leftovers.find(str(shm))
    assert sorted(path.name for path in shm.iterdir()) == ["psm_other", "sem.mp-young"]
    assert list(root.iterdir()) == []
