"""Servers that fork workers of their own, as they are: gunicorn and Celery. No network but the loopback, no broker."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from live.helpers import PATIENCE_S, Script, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}")


APPLICATION = """
import os
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor

def double(number):
    return 2 * number

if os.environ.get("USED_BEFORE"):  # the master has a session when it forks
    with Pool(2) as pool:
        assert pool.map(double, range(5)) == [0, 2, 4, 6, 8]

executor = None

def application(environ, start_response):
    global executor
    if executor is None:
        executor = ProcessPoolExecutor(2)
    with Pool(2) as pool:
        found = sum(pool.map(double, range(100))) + sum(executor.map(double, range(10)))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {found}".encode()]
"""


@needs("gunicorn")
@pytest.mark.parametrize("used", ["", "1"], ids=["imported", "used before the fork"])
@pytest.mark.parametrize("options", [["--preload"], [], ["--preload", "--max-requests", "2"]], ids=" ".join)
def test_gunicorn(tmp_path: Path, options: list[str], used: str) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    socket_path = "unix:./web.sock"
    command = ["-W", "ignore", "-m", "gunicorn", "-w", "2", "-b", socket_path, "--log-level", "warning", *options]
    server = Script(tmp_path, [*command, "site_app:application"], environ={"USED_BEFORE": used})
    try:
        wait_for((tmp_path / "web.sock").exists)
        answers = [ask(tmp_path / "web.sock").split() for _ in range(8)]
        server.process.send_signal(signal.SIGTERM)
        out, err = server.finish()
    finally:
        server.close()

    assert {found for _, found in answers} == {str(9900 + 90)}
    assert (server.process.returncode, out) == (0, "")
    assert "Traceback" not in err, err
    assert "scalepool" not in err, err
    server.assert_nothing_left()


def ask(path: Path) -> str:
    import http.client
    import socket

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE_S)
            self.sock.connect(os.path.relpath(path))  # short enough for a socket

    for _ in range(20):
        connection = Connection("localhost")
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, text
            return text
        except (ConnectionError, http.client.RemoteDisconnected):  # a worker that is being replaced
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError("no answer")


CELERY = """
import os
from celery import Celery
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor

app = Celery("celery_app", broker="filesystem://", backend="file://./results")
os.makedirs("queue", exist_ok=True)
os.makedirs("results", exist_ok=True)
app.conf.broker_transport_options = {
    "data_folder_in": "./queue", "data_folder_out": "./queue", "control_folder": "./queue"
}
app.conf.worker_hijack_root_logger = False

def double(number):
    return 2 * number

if os.environ.get("USED_BEFORE"):
    with Pool(2) as pool:
        assert pool.map(double, range(5)) == [0, 2, 4, 6, 8]

@app.task
def work(count):
    with Pool(2) as pool:
        found = sum(pool.map(double, range(count)))
    with ProcessPoolExecutor(2) as executor:
        return found + sum(executor.map(double, range(10)))
"""


@needs("celery")
@pytest.mark.parametrize("used", ["", "1"], ids=["imported", "used before the fork"])
def test_celery_with_prefork_workers(tmp_path: Path, used: str) -> None:
    (tmp_path / "celery_app.py").write_text(CELERY)
    (tmp_path / "ask.py").write_text(
        "from celery_app import work\nprint([one.get(timeout=60) for one in [work.delay(100) for _ in range(6)]])\n"
    )
    environ = {"USED_BEFORE": used, "C_FORCE_ROOT": "1"}
    command = ["-W", "ignore", "-m", "celery", "-A", "celery_app", "worker", "--concurrency", "2", "--pool", "prefork"]
    server = Script(
        tmp_path, [*command, "--loglevel", "ERROR", "--without-gossip", "--without-mingle"], environ=environ
    )
    try:
        done = subprocess.run(
            [sys.executable, "ask.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        server.process.send_signal(signal.SIGTERM)
        _, err = server.finish()
    finally:
        server.close()

    assert done.stdout == f"{[9900 + 90] * 6}\n", done.stderr + err
    assert "Traceback" not in err, err
    server.assert_nothing_left()
