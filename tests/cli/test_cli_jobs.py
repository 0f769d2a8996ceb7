from __future__ import annotations

import subprocess

import pytest

from scalepool.cli.jobs import SYSTEMS, exports, fill, job_id, script, template
from scalepool.cli.targets import TargetError, batch

VALUES = {
    "address": "tcp://head:7877",
    "command": "python -m scalepool worker tcp://head:7877",
    "environment": "",
    "log": "/home/me/logs/x.log",
    "prologue": "",
}


def filled(target: str, **values: str) -> str:
    system, _, rest = target.partition("://")
    return script(template(system), batch(system, rest), {**VALUES, **values})


def directives(text: str, mark: str) -> list[str]:
    return [line.removeprefix(mark).strip() for line in text.splitlines() if line.startswith(mark)]


def test_holes_are_filled_and_lines_without_a_value_left_out() -> None:
    assert fill("a={{a}}\nb={{b}}\nc\n", {"a": "1", "b": ""}, []) == "a=1\nc\n"
    assert fill("x{{?-a:|a}}{{?-b:|b}}\n", {"a": "1", "b": ""}, []) == "x-a:1\n"
    assert fill("#{{option}}!\n", {}, ["one", "two=2"]) == "#one!\n#two=2!\n"
    assert fill("#{{option}}!\n", {}, []) == ""
    assert fill("{{a}}\n", {"a": "{{b}} ${c} [[ ]]"}, []) == "{{b}} ${c} [[ ]]\n"


def test_a_hole_that_nobody_knows_is_named() -> None:
    with pytest.raises(TargetError, match="hole named 'wall'; there are a, b"):
        fill("{{wall}}", {"a": "", "b": ""}, [])


def test_options_need_a_place() -> None:
    with pytest.raises(TargetError, match="'qos=low' could stand"):
        fill("nothing\n", {}, ["qos=low"])


def test_slurm() -> None:
    text = filled("slurm://long?nodes=4&time=1:00:00&cpus=8&mem=16G&account=p1&gpus=2&qos=low&exclusive=")
    assert directives(text, "#SBATCH") == [
        "--job-name=scalepool", "--partition=long", "--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=8",
        "--mem=16G", "--time=1:00:00", "--account=p1", "--gres=gpu:2", "--output=/home/me/logs/x.log", "--qos=low",
        "--exclusive",
    ]  # fmt: skip
    assert "exec srun " in text
    assert text.endswith(f"{VALUES['command']}\n")


def test_pbs() -> None:
    text = filled("pbs://long?time=1:00:00&cpus=8&mem=16gb&gpus=2&W=umask=077")
    assert directives(text, "#PBS") == [
        "-N scalepool", "-q long", "-l select=1:ncpus=8:mem=16gb:ngpus=2", "-l walltime=1:00:00", "-j oe",
        "-o /home/me/logs/x.log", "-W umask=077",
    ]  # fmt: skip
    assert "-l select=1\n" in filled("pbs://")


def test_lsf() -> None:
    text = filled("lsf://long?time=60&cpus=8&account=p1&app=x")
    assert directives(text, "#BSUB") == [
        "-J scalepool", "-q long", "-P p1", "-n 8", '-R "span[hosts=1]"', "-W 60", "-o /home/me/logs/x.log", "-app x",
    ]  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    "query", ["", "q?nodes=2&time=1:00&cpus=2&mem=1G&gpus=1&account=a&name=n&log=/x&other=y&flag="]
)
def test_directives_come_first_and_the_script_is_one(system: str, query: str) -> None:
    environment = exports({"A": "it's $HOME", "B": ""})
    text = filled(f"{system}://{query}", environment=environment, prologue="module load python\nulimit -c 0")
    assert "{{" not in text
    lines = text.splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("#") and not line.startswith("# "))
    assert not [line for line in lines[:last] if line and not line.startswith("#")]
    assert lines.index("module load python") > last
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""
    shown = subprocess.run(["bash", "-c", f'{environment}\nprintf %s "$A"'], text=True, capture_output=True, check=True)
    assert shown.stdout == "it's $HOME"


@pytest.mark.parametrize(
    ("system", "said", "number"),
    [
        ("slurm", "4711\n", "4711"),
        ("slurm", "4711;big\n", "4711"),
        ("pbs", "4711.server.example\n", "4711.server.example"),
        ("lsf", "Job <4711> is submitted to queue <normal>.\n", "4711"),
        ("lsf", "what?\n", ""),
    ],
)
def test_the_number_of_a_job_is_found(system: str, said: str, number: str) -> None:
    assert job_id(system, said) == number
