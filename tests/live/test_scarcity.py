"""A kernel that refuses: processes, memory. Fewer workers and one message; or an error that says what happened."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live.helpers import PATIENCE_S, ROOT, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

NOBODY = 65534


@contextlib.contextmanager
def control_group(controller: str, limits: dict[str, str]) -> Iterator[Path]:
    """Make a group below ours, of version 2 or 1, with the first of the limits that it knows; or skip."""
    for top, kind in ((Path("/sys/fs/cgroup"), 2), (Path("/sys/fs/cgroup") / controller, 1)):
        if (top / "cgroup.procs").exists():
            group = top / f"scalepool-test-{secrets.token_hex(4)}"
            try:
                group.mkdir()
            except OSError as error:
                pytest.skip(f"control groups of version {kind} cannot be made: {error}")
            try:
                known = [(name, value) for name, value in limits.items() if (group / name).exists()]
                if not known:
                    continue
                for name, value in known:
                    (group / name).write_text(value)
                yield group
                return
            except PermissionError as error:
                pytest.skip(f"control groups of version {kind} cannot be set: {error}")
            finally:
                group.rmdir()
    pytest.skip(f"no control groups for {controller}")


def run_in(group: Path, folder: Path, source: str) -> tuple[int | None, str, str]:
    path = folder / "program.py"
    enter = f"with open({str(group / 'cgroup.procs')!r}, 'w') as file:\n    file.write(str(os.getpid()))"
    path.write_text(f"import os\n{enter}\n{source}")
    running = Script(folder, [str(path)])
    try:
        out, err = running.finish()
    finally:
        running.close()
    running.assert_nothing_left()
    return running.process.returncode, out, err


def test_a_worker_that_the_kernel_kills_for_its_memory(tmp_path: Path) -> None:
    source = """
from scalepool.errors import WorkerDiedError
from scalepool.multiprocessing import Pool

def grow(mib):
    kept = []
    for _ in range(mib):
        kept.append(b"x" * 2**20)
    return mib

with Pool(2) as pool:
    results = pool.map(grow, [1] * 20 + [4000] + [1] * 20, chunksize=7, on_error="return")
    failed = [result for result in results if isinstance(result, WorkerDiedError)]
    print(len(failed), results.count(1), failed[0].index, failed[0].signal_name)
    print(failed[0].oom)
    print(failed[0].peak_rss_bytes > 100 * 2**20, "peak" in str(failed[0]) and "kernel killed" in str(failed[0]))
    print(pool.map(abs, range(-9, 0)) == list(range(9, 0, -1)), len([one for one in pool._pool if one.is_alive()]))
"""
    limits = {"memory.max": "314572800", "memory.swap.max": "0", "memory.limit_in_bytes": "314572800"}
    with control_group("memory", limits) as group:
        code, out, err = run_in(group, tmp_path, source)

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "1 40 20 SIGKILL",
        "the kernel killed a process of this cgroup because its memory limit was reached",
        "True True",
        "True 2",
    ]


FEW = """
import os, time
from scalepool.multiprocessing import Pool

def where(_):
    time.sleep(0.05)
    return os.getpid()

with Pool(40) as pool:
    assert pool.map(abs, range(-500, 0)) == list(range(500, 0, -1))
    print(len(set(pool.map(where, range(200), chunksize=1))))
"""


def check_few(code: int | None, out: str, err: str, most: int) -> None:
    assert code == 0, err
    assert 1 <= int(out) <= most
    (message,) = err.splitlines()
    assert "EAGAIN" in message or "Resource temporarily unavailable" in message


def test_a_control_group_with_few_processes_means_fewer_workers_and_one_message(tmp_path: Path) -> None:
    with control_group("pids", {"pids.max": "30"}) as group:
        check_few(*run_in(group, tmp_path, FEW), most=30)


def test_a_user_who_may_have_few_processes_has_fewer_workers_and_one_message(tmp_path: Path) -> None:
    """The limit does not hold for root, who therefore becomes nobody, but may still read all files."""
    prefix: list[str] = []
    if os.getuid() == 0:
        capabilities = "+dac_override,+dac_read_search"
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
        try:
            subprocess.run([*prefix, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs setpriv, to be another user than root")
    uid = NOBODY if prefix else os.getuid()
    limit = 25
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == uid:
                limit += len(list((path / "task").iterdir()))
    path = tmp_path / "program.py"
    path.write_text(FEW)
    done = subprocess.run(
        [*prefix, "bash", "-c", f"ulimit -u {limit} && exec {sys.executable} {path}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp", "HOME": "/"},
        check=False,
    )
    check_few(done.returncode, done.stdout, done.stderr, most=limit)


ACTORS = """
import asyncio, os, scalepool

def census():
    return len(os.listdir("/proc/self/fd")) - 1, len(os.listdir("/proc/self/task"))

class Plain:
    def look(self): return census()
class Loop:
    async def look(self):
        await asyncio.sleep(0)
        return census()
class Threads:
    def look(self): return census()

plain = scalepool.remote(Plain).remote()
loop = scalepool.remote(Loop).remote()
threads = scalepool.remote(Threads).options(max_concurrency=4).remote()
for actor in (plain, loop, threads):
    print(*max(scalepool.get([actor.look.remote() for _ in range(20)])))
"""


def test_what_actors_cost_in_descriptors_and_threads(tmp_path: Path) -> None:
    path = tmp_path / "actors.py"
    path.write_text(ACTORS)
    running = Script(tmp_path, ["-W", "ignore", str(path)])
    try:
        out, err = running.finish()
    finally:
        running.close()
    assert not err
    found = [tuple(map(int, line.split())) for line in out.splitlines()]
    running.assert_nothing_left()

    (plain_fds, plain_threads), (loop_fds, loop_threads), (_, own_threads) = found
    assert plain_fds <= 20
    assert plain_threads <= 3
    assert loop_fds <= 20 + 4  # of the loop: epoll and a pair of sockets
    assert loop_threads <= 3 + 1
    assert own_threads <= 3 + 4
