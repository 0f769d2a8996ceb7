"""Driver and helper are killed at the same moment: what is left is found by its mark, and removed by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from live.helpers import GONE_S, PATIENCE_S, is_running, script, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

SOURCE = """
import time
from live import tasks
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
print(group.submit(tasks.child_process).result(60), flush=True)
time.sleep(600)
"""


def test_the_doctor_removes_what_a_program_and_its_helper_have_left(tmp_path: Path) -> None:
    with script(tmp_path, SOURCE) as driver:
        child = int(driver.read_line())
        process = psutil.Process(driver.process.pid)
        workers = process.children(recursive=True)
        (zygote,) = process.children()
        os.kill(driver.process.pid, signal.SIGSTOP)  # or it cleans up after its helper before it is killed itself
        for pid in (zygote.pid, driver.process.pid):
            os.kill(pid, signal.SIGKILL)
        driver.process.wait(PATIENCE_S)
        wait_for(lambda: not any(one.is_running() and one.pid != child for one in workers), GONE_S)
        assert is_running(child)
        (folder,) = driver.temporary.iterdir()
        an_hour_ago = time.time() - 3600
        os.utime(folder, (an_hour_ago, an_hour_ago))

        command = [sys.executable, "-m", "scalepool", "doctor", "--clean", "--no-trial"]
        environ = {**os.environ, "TMPDIR": str(driver.temporary)}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PATIENCE_S, check=False)

        assert "removed 1 folder, 1 process" in done.stdout, done.stdout + done.stderr
        wait_for(lambda: not is_running(child), GONE_S)
        assert not folder.exists()
