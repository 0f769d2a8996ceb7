from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest
from bench_fakes import LINGERER

from scalepool.bench import launch
from scalepool.bench.launch import Order, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """However a run ends, no process of it does not."""
    before = _lingerers()
    yield
    assert _lingerers() == before


def _lingerers() -> set[int]:
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if LINGERER in (process.info["cmdline"] or ()):
            found.add(process.pid)
    return found


def test_figures_cpu_time_and_memory_arrive(order: Callable[..., Order]) -> None:
    outcome = carry_out(order("well"))

    assert outcome.problem is None
    assert outcome.values == {"value": 42.0}
    assert outcome.tasks == 10
    assert outcome.wall_s is not None
    assert outcome.cpu_s is not None
    assert 0.02 <= outcome.cpu_s < 5.0
    assert outcome.memory_bytes > 1_000_000
    assert outcome.left_behind == 0


@pytest.mark.parametrize(
    ("workload", "problem"),
    [
        ("crash", "LookupError: nothing like that here"),
        ("exit_silently", "ended with exit code 3 and without a word"),
        ("abort", "killed by SIGABRT"),
        ("wrong", "wrong result: results: [1, 2, 3] instead of [1, 2, 4]"),
    ],
)
def test_a_failure_is_told_in_one_line(order: Callable[..., Order], workload: str, problem: str) -> None:
    outcome = carry_out(order(workload))

    assert outcome.problem == problem
    assert not outcome.values


def test_what_hangs_is_ended_with_all_that_it_started(order: Callable[..., Order]) -> None:
    begin = time.monotonic()
    outcome = carry_out(order("hang", timeout_s=1.5))

    assert outcome.problem == "no result within 1.5 s"
    assert time.monotonic() - begin < 30


def test_what_is_printed_does_not_get_into_the_answer(order: Callable[..., Order]) -> None:
    assert carry_out(order("chatter")).values == {"value": 1.0}


@pytest.mark.slow
def test_what_is_left_behind_is_counted_and_killed(order: Callable[..., Order]) -> None:
    outcome = carry_out(order("litter"))

    assert outcome.values == {"value": 1.0}
    assert outcome.left_behind == 2


def test_memory_is_sampled_while_it_runs(order: Callable[..., Order]) -> None:
    outcome = carry_out(order("remember", watch_memory=True))

    assert outcome.problem is None
    assert 60 < outcome.values["extra"] < 80


def test_an_interrupt_ends_the_run_as_well(order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(watch: object, reader: int) -> bytes:
        deadline = time.monotonic() + 30
        while not _lingerers() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _lingerers()
        raise KeyboardInterrupt

    monkeypatch.setattr(launch._Watch, "until_answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        carry_out(order("hang"))
