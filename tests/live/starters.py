"""Stand-ins for ssh and for the commands of batch systems, which run on this machine what they would run elsewhere.

Each has the interface of the real one as far as `scalepool up` uses it, and writes down how it was called. A "host" is
a home folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keeper

from live.clusters import LONG_S, until

ROOT = str(Path(__file__).parents[2])

_SSH = """\
echo "$0 $*" >> "$folder/calls"
while :; do
    case $1 in
        -G) echo "hostname 127.0.0.1"; exit 0 ;;
        -T) shift ;;
        -o) shift 2 ;;
        *) break ;;
    esac
done
host=${1#*@}
case $host in
    gone*) echo "ssh: Could not resolve hostname $host: Name or service not known" >&2; exit 255 ;;
    silent*) exec sleep 600 ;;
esac
shift
mkdir -p "$folder/$host"
# As sshd: the user's shell gets the words in one line, and next to nothing of our environment.
exec env -i PATH="$PATH" HOME="$folder/$host" TMPDIR="$folder/$host" SCALEPOOL_TEST_HOST="$host" \\
    SCALEPOOL_TEST_RUN="$SCALEPOOL_TEST_RUN" PYTEST_CURRENT_TEST="$PYTEST_CURRENT_TEST" sh -c "$*"
"""
_SBATCH = """\
[ "$1" = --parsable ] || exit 2
echo "$0 $*" >> "$folder/calls"
nodes=$(sed -n 's/^#SBATCH --nodes=//p' "$2")
cpus=$(sed -n 's/^#SBATCH --cpus-per-task=//p' "$2")
log=$(sed -n 's/^#SBATCH --output=//p' "$2" | sed "s/%j/$$/")
export SLURM_JOB_ID=$$ SLURM_NNODES=$nodes SLURM_CPUS_PER_TASK=$cpus
setsid bash "$2" >"${log:-$folder/job.log}" 2>&1 </dev/null &
echo $! >> "$folder/pids"
echo "$$;big"
"""
_SRUN = """\
echo "$0 $*" >> "$folder/calls"
while :; do case $1 in -*) shift ;; *) break ;; esac; done
node=0
while [ "$node" -lt "$SLURM_NNODES" ]; do
    SLURM_NODEID=$node "$@" &
    echo $! >> "$folder/pids"
    node=$((node + 1))
done
wait
echo ended
"""
_QSUB = """\
echo "$0 $*" >> "$folder/calls"
PBS_JOBID=1 NCPUS=1 setsid bash "$1" >>"$folder/job.log" 2>&1 </dev/null &
echo $! >> "$folder/pids"
echo "$!.server"
"""
_BSUB = """\
echo "$0 $*" >> "$folder/calls"
cat > "$folder/spooled.$$"
setsid bash "$folder/spooled.$$" >>"$folder/job.log" 2>&1 </dev/null &
echo $! >> "$folder/pids"
echo "Job <$!> is submitted to queue <normal>."
"""
_PROGRAMS = {"ssh": _SSH, "sbatch": _SBATCH, "srun": _SRUN, "qsub": _QSUB, "bsub": _BSUB}


class Site:
    """A user's home on a machine whose PATH has the stand-ins; ends whatever was started from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._spawned: dict[int, subprocess.Popen[bytes]] = {}
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.home / ".scalepool").mkdir(parents=True, mode=0o700)
        for name, text in _PROGRAMS.items():
            self.program(name, f"folder={folder}\n{text}")
        self.program("python", f'exec "{sys.executable}" "$@"')
        self.program("scalepool", f'exec "{sys.executable}" -m scalepool "$@"')

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}")
        (self.bin / name).chmod(0o700)

    @property
    def environ(self) -> dict[str, str]:
        names = ("LANG", "LC_ALL", "COVERAGE_PROCESS_START", keeper.MARK, "PYTEST_CURRENT_TEST")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH", "")]))
        return {
            **kept, "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "PYTHONPATH": path,
            "TMPDIR": str(self.folder),
        }  # fmt: skip

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**self.environ, **environ}, text=True, capture_output=True, timeout=LONG_S, check=False,
            cwd=self.home,
        )  # fmt: skip

    def scalepool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "scalepool", *arguments)

    def spawn(self, command: list[str]) -> int:
        """Start something in the background; its process."""
        with (self.folder / "spawned.log").open("a") as log:
            process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, start_new_session=True)
        self._spawned[process.pid] = process
        return process.pid

    def end(self, pid: int) -> None:
        """Ask it to end, and wait for that."""
        self._spawned[pid].terminate()
        assert self._spawned.pop(pid).wait(LONG_S) == 0

    @property
    def calls(self) -> str:
        return (self.folder / "calls").read_text()

    def pids(self) -> list[int]:
        """All processes that were started in the background, as far as they have told."""
        found = []
        for path in [*self.folder.glob("*/.scalepool/*.pid"), self.folder / "pids"]:
            with contextlib.suppress(OSError):
                found += [int(word) for word in path.read_text().split()]
        return found

    def wait_for_the_end(self) -> None:
        """Wait until none of them runs."""
        until(lambda: not any(runs(pid) for pid in self.pids()))

    def close(self) -> None:
        self.scalepool("down")
        for process in self._spawned.values():
            process.kill()
            process.wait()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.bin)


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
