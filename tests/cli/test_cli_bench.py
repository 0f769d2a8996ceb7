from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from click.testing import CliRunner, Result

from scalepool.bench.launch import Order, Outcome
from scalepool.bench.workloads import WORKLOADS
from scalepool.cli import bench as bench_module
from scalepool.cli import main
from scalepool.cli.bench import bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Replace runs by figures; return what was ordered."""
    taken: list[Order] = []

    def carry_out(order: Order) -> Outcome:
        taken.append(order)
        value = 10.0 if order.candidate.startswith("scalepool") else 20.0
        values = {metric.name: value for metric in WORKLOADS[order.workload].metrics}
        return Outcome(values, tasks=5, wall_s=1.0, cpu_s=0.1, memory_bytes=20_000_000)

    def execute(plan: Any, catalogue: Any, report: Any, listener: Any) -> None:
        original(plan, catalogue, report, listener, carry_out)

    original = bench_module.execute
    monkeypatch.setattr(bench_module, "execute", execute)
    return taken


def call(*arguments: str) -> Result:
    return CliRunner().invoke(bench, list(arguments))


def test_the_list_runs_nothing(orders: list[Order]) -> None:
    result = call("--list")

    assert result.exit_code == 0
    assert all(name in result.output for name in WORKLOADS)
    assert orders == []


def test_what_is_asked_for_is_run_and_shown(orders: list[Order]) -> None:
    result = call("--only", "call-latency,m*p", "--peers", "multi*", "--rounds", "2", "--workers", "3", "--quick")

    assert result.exit_code == 0
    assert {order.workload for order in orders} == {"call-latency", "map"}
    assert {order.candidate for order in orders} == {"scalepool", "scalepool.Executor", "multiprocessing.Pool"}
    assert {order.workers for order in orders} == {3}
    assert len(orders) == 2 * (3 + 2)
    assert result.output.index("call-latency  one no-op call") < result.output.index("map  Pool.map")
    assert "2.00x ahead" in result.output
    assert max(map(len, result.output.splitlines())) <= 100


@pytest.mark.parametrize(("arguments", "rounds"), [((), 5), (("--quick",), 1), (("--quick", "--rounds", "4"), 4)])
def test_rounds_unless_told(orders: list[Order], arguments: tuple[str, ...], rounds: int) -> None:
    assert call("--only", "map", "--peers", "serial", *arguments).exit_code == 0
    assert len(orders) == 2 * rounds


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--only", "mapp"), "no 'mapp'; there is: call-latency, "),
        (("--peers", "dusk"), "no 'dusk'; there is: multiprocessing.Pool, "),
        (("--rounds", "0"), "--rounds"),
        (("--workers", "0"), "--workers"),
        (("--plot", "x.gif"), "has to end in .png or .svg"),
        (("--json", "no/such/folder/x.json"), "there is no folder 'no/such/folder'"),
        (("--compare", "no-such-file"), "does not exist"),
    ],
)
def test_a_wrong_use_costs_no_run(orders: list[Order], arguments: tuple[str, ...], complaint: str) -> None:
    result = call(*arguments)

    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.split())
    assert orders == []


def test_a_plot_needs_matplotlib(orders: list[Order], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "has_module", lambda name: False)
    result = call("--plot", "x.svg")

    assert result.exit_code == 2
    assert "pip install 'scalepool[bench]'" in result.stderr
    assert orders == []


def test_results_are_written_shown_again_and_compared(orders: list[Order], tmp_path: Path) -> None:
    path = str(tmp_path / "old.json")
    first = call("--only", "map", "--peers", "multi*", "--json", path)
    ran = len(orders)
    again = call("--from", path, "--compare", path)

    assert first.exit_code == again.exit_code == 0
    assert json.loads((tmp_path / "old.json").read_text())["cells"]
    assert len(orders) == ran
    assert first.output.strip() in again.output
    assert "Nothing got worse beyond the noise." in again.output


@pytest.mark.parametrize("option", ["--compare", "--from"])
def test_a_file_that_is_no_report_is_refused(orders: list[Order], tmp_path: Path, option: str) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    result = call(option, str(path))

    assert result.exit_code == 2
    assert "is no report of scalepool bench" in " ".join(result.stderr.split())
    assert orders == []


@pytest.mark.slow
def test_a_picture_is_drawn(orders: list[Order], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", exc_type=ImportError)
    path = tmp_path / "p.svg"
    result = call("--only", "map", "--peers", "multi*", "--plot", str(path))

    assert result.exit_code == 0
    assert path.read_text().startswith("<?xml")


def test_after_an_interrupt_what_there_is_is_shown_and_kept(
    orders: list[Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    execute = bench_module.execute

    def interrupted(plan: Any, catalogue: Any, report: Any, listener: Any) -> None:
        execute(plan, catalogue, report, listener)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_module, "execute", interrupted)
    result = call("--only", "map", "--peers", "multi*", "--json", str(path))

    assert result.exit_code == 130
    assert result.output.count("map  Pool.map") == 1
    assert "Interrupted: this is what there is." in result.output
    assert path.exists()


# ---- as a user's terminal does it ----


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scalepool", "bench", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.live
@pytest.mark.slow
def test_a_real_comparison() -> None:
    done = start("--quick", "--only", "call-latency,map", "--peers", "multi*,serial")
    output, errors = done.communicate(timeout=100)

    assert (done.returncode, errors) == (0, "")
    assert "n/a" not in output
    rows = [line for line in output.splitlines() if line.startswith("    scalepool  ")]
    assert len(rows) == 3
    assert max(map(len, output.splitlines())) <= 100


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything(number: int, code: int) -> None:
    running = start("--only", "efficiency-10ms", "--peers", "serial", "--rounds", "100")
    runs: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while not runs and time.monotonic() < deadline:
        runs = psutil.Process(running.pid).children(recursive=True)
        time.sleep(0.01)
    os.kill(running.pid, number)
    output, _ = running.communicate(timeout=60)

    assert running.returncode == code
    assert ("Interrupted" in output) == (number == signal.SIGINT)
    assert runs, "no run had begun"
    assert not any(process.is_running() for process in runs)


def test_an_early_interrupt_has_the_same_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(plan: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scalepool.bench.report.Report.begin", interrupt)
    assert main(["bench", "--only", "map"]) == 130
