"""Starters, as far as a machine without ssh and batch systems goes: stand-ins run here what those would run there."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from live.clusters import until
from live.starters import ROOT, Site, runs
from scalepool._net.keys import AGENT, read_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

PROGRAM = """
import os, time
import scalepool.multiprocessing as mp

def where(number):
    time.sleep(0.05)
    return os.environ.get("SCALEPOOL_TEST_HOST"), number

if __name__ == "__main__":
    with mp.Pool() as pool:
        found = pool.map(where, range(20), chunksize=1)
    assert [number for _, number in found] == list(range(20))
    print(mp.cpu_count(), sorted({str(host) for host, _ in found}))
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def by_ssh(site: Site, target: str, *arguments: str) -> Any:
    done = site.scalepool("up", target, "--port", "0", "--env", f"PYTHONPATH={ROOT}", *arguments)
    assert "Traceback" not in done.stderr
    return done


def status(site: Site) -> Any:
    done = site.scalepool("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_program(site: Site) -> str:
    (site.home / "program.py").write_text(PROGRAM)
    address = json.loads((site.home / ".scalepool" / "cluster.json").read_text())["address"]
    done = site.run(sys.executable, "program.py", SCALEPOOL_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_hosts_come_by_ssh_and_leave_with_the_cluster(site: Site) -> None:
    done = by_ssh(site, "ssh://me@one:1,two:2")
    assert done.returncode == 0, done.stderr
    first, *hosts, last = done.stdout.splitlines()
    assert "is started at tcp://127.0.0.1:" in first
    assert [line.split(", as process")[0] for line in hosts] == ["one: joined", "two: joined"]
    assert "scalepool down" in last
    assert sorted(node["slots"] for node in status(site)["nodes"]) == [1, 2]
    assert run_program(site) == "3 ['one', 'two']"

    keys = read_keys(str(site.home / ".scalepool" / "keys.json"))
    theirs = site.folder / "two" / ".scalepool" / f"agent-{keys.cluster}.json"
    assert read_keys(str(theirs)) == keys.only_for(AGENT)  # which refuses a file that others could read
    for pair in keys.pairs.values():
        assert pair.secret.decode() not in site.calls

    # Again, with one more: those that are there stay as they are.
    again = json.loads(by_ssh(site, "ssh://me@one:1,two:2,three:1", "--json").stdout)
    assert not again["started"]
    assert [host["message"].split(", as process")[0] for host in again["hosts"]] == [
        "had joined already", "had joined already", "joined"
    ]  # fmt: skip
    assert len(status(site)["nodes"]) == 3

    head = json.loads((site.home / ".scalepool" / "cluster.json").read_text())["pid"]
    assert len(site.pids()) == 3
    assert site.scalepool("down").returncode == 0
    site.wait_for_the_end()
    until(lambda: not runs(head))


def test_a_host_that_fails_is_named_in_the_words_of_ssh_and_the_others_join(site: Site) -> None:
    done = by_ssh(site, "ssh://gone.example,one:1")
    assert done.returncode == 1
    assert "one: joined" in done.stdout
    assert done.stderr == (
        "gone.example: failed: ssh: Could not resolve hostname gone.example: Name or service not known\n"
    )
    assert run_program(site) == "1 ['one']"


def test_a_host_that_does_not_answer_is_given_up(site: Site) -> None:
    done = by_ssh(site, "ssh://silent:1", "--timeout", "3")
    assert done.returncode == 1
    assert done.stderr == "silent: failed: ssh did not end within 3 seconds\n"


def test_a_host_without_the_package_says_so(site: Site) -> None:
    done = site.scalepool("up", "ssh://one", "--port", "0", "--python", "/usr/bin/env", "--json")
    assert done.returncode == 1
    (host,) = json.loads(done.stdout)["hosts"]
    assert not host["joined"]
    assert "/usr/bin/env" in host["message"] or "env: " in host["message"]


def test_a_folder_goes_along(site: Site) -> None:
    folder = site.folder / "my project"
    folder.mkdir()
    (folder / "only_there.py").write_text("import os\nfound = os.path.basename(os.getcwd())\n")
    done = site.scalepool(
        "up", "ssh://one:1", "--port", "0", "--env", f"PYTHONPATH={ROOT}", "--sync", str(folder)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    script = "import scalepool\n@scalepool.remote\ndef f():\n import only_there\n return only_there.__file__\n"
    (site.home / "program.py").write_text(f"{script}print(scalepool.get(f.remote()))\n")
    address = json.loads((site.home / ".scalepool" / "cluster.json").read_text())["address"]
    ran = site.run(sys.executable, "program.py", SCALEPOOL_ADDRESS=address)
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).is_relative_to(site.folder / "one" / ".scalepool" / "sync")


@pytest.mark.parametrize(
    ("target", "job"),
    [
        ("slurm://long?nodes=2&cpus=1", r" as \d+;"),
        ("pbs://long?nodes=2&cpus=1", r" as \d+\.server \d+\.server;"),
        ("lsf://long?nodes=2&cpus=1", r" as \d+ \d+;"),
    ],
)
def test_hosts_come_by_a_batch_system(site: Site, target: str, job: str) -> None:
    done = site.scalepool("up", target, "--head", "127.0.0.1", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert re.search(job, done.stdout)
    joined = site.scalepool("status", "--json", "--wait", "2", "--timeout", "60")
    assert joined.returncode == 0, joined.stderr
    if not target.startswith("lsf"):  # what the batch system has granted
        assert [node["slots"] for node in json.loads(joined.stdout)["nodes"]] == [1, 1]
    assert run_program(site).endswith("['None']")
    assert site.scalepool("down").returncode == 0
    site.wait_for_the_end()
    (log,) = [*site.folder.glob("job.log"), *site.home.glob(".scalepool/logs/slurm-*.log")]
    assert log.read_text().count(" joined ") == 2


def test_the_job_of_the_page_brings_its_own_cluster(site: Site) -> None:
    page = (Path(ROOT) / "docs" / "slurm.md").read_text()
    (job,) = re.findall(r"```sh\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    for there, here in {
        "nodes=4": "nodes=2",
        "task=8": "task=1",
        "$(hostname)": "127.0.0.1",
        "0.0.0.0": "127.0.0.1",
    }.items():
        assert there in job
        job = job.replace(there, here)
    (site.home / "job.sh").write_text(job)
    (site.home / "your_program.py").write_text(PROGRAM)
    assert site.scalepool("keys", "new").returncode == 0
    assert site.run("sbatch", "--parsable", "job.sh").returncode == 0
    log = site.folder / "job.log"
    until(lambda: "The cluster is down." in log.read_text())
    site.wait_for_the_end()
    assert "2 ['None']" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_hosts_that_do_not_come_are_not_waited_for_longer_than_said(site: Site) -> None:
    assert by_ssh(site, "ssh://one:1").returncode == 0
    assert site.scalepool("status", "--wait", "1").returncode == 0
    done = site.scalepool("status", "--wait", "2", "--timeout", "0.1")
    assert done.returncode == 1
    assert done.stderr == "Error: 1 of 2 hosts have joined within 0.1 seconds\n"


def test_what_a_submit_command_complains_of_is_passed_on(site: Site) -> None:
    site.program("sbatch", 'echo "sbatch: error: invalid partition specified: long" >&2; exit 1')
    done = site.scalepool("up", "slurm://long", "--head", "127.0.0.1", "--port", "0")
    assert done.returncode == 1
    assert "sbatch failed: sbatch: error: invalid partition specified: long" in done.stderr
    (site.bin / "sbatch").unlink()
    done = site.scalepool("up", "slurm://long", "--head", "127.0.0.1", "--port", "0", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["message"] == "sbatch cannot be run: No such file or directory"


def test_the_containers_of_a_manifest_run_and_their_probes_tell_the_truth(site: Site) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads what is printed")
    assert site.scalepool("keys", "new").returncode == 0
    printed = site.scalepool("manifest", "k8s", "--image", "x", "--worker-args", "--memory 1GB")
    secret, _, head, worker = yaml.safe_load_all(printed.stdout)
    port = free_port()

    def here(part: Any, command: list[str]) -> list[str]:
        """What runs in a container, with this machine's paths and addresses."""
        name = part["metadata"]["name"]
        changes = {"/run/": f"{site.folder}/{name}/", "scalepool-head:7877": "127.0.0.1:7877", "7877": str(port)}
        for one, other in changes.items():
            command = [word.replace(one, other) for word in command]
        return [word.replace("0.0.0.0", "127.0.0.1") for word in command]

    def start(part: Any) -> int:
        spec = part["spec"]["template"]["spec"]
        own = site.folder / part["metadata"]["name"]
        for folder in ("secrets/scalepool", "scalepool"):
            (own / folder).mkdir(parents=True)
        (item,) = spec["volumes"][0]["secret"]["items"]
        mounted = own / "secrets" / "scalepool" / item["path"]
        mounted.write_text(secret["stringData"][item["key"]])
        mounted.chmod(0o440)  # as fsGroup has it
        return site.spawn(here(part, spec["containers"][0]["command"]))

    def is_ready(part: Any) -> bool:
        probe = part["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
        return site.run(*here(part, probe["exec"]["command"])).returncode == 0

    head_pid = start(head)
    until(lambda: is_ready(head))
    worker_pid = start(worker)
    until(lambda: is_ready(worker))
    site.end(worker_pid)  # as the kubelet: SIGTERM
    until(lambda: not is_ready(worker))
    assert is_ready(head)
    site.end(head_pid)
    assert not is_ready(head)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
