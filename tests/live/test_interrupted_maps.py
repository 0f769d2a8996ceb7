"""``executor.map`` is interrupted before it has returned: nobody can get its results, so nothing of it goes on."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from live.helpers import Ledger, is_running, wait_for, write_line
from scalepool.concurrent.futures import ProcessPoolExecutor

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def slow(path: str) -> None:
    write_line(path, os.getpid())
    time.sleep(600)


@pytest.mark.parametrize("starts", [True, False])
def test_an_interrupt_while_a_map_begins_stops_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        if self.name != "scalepool-map-feeder":
            start(self)
            return
        if starts:
            start(self)
        wait_for(ledger.lines)
        raise KeyboardInterrupt

    with ProcessPoolExecutor(2) as executor:
        assert list(executor.map(abs, range(4))) == [0, 1, 2, 3]
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                executor.map(slow, [ledger.path] * 6)
        wait_for(lambda: not any(is_running(int(pid)) for pid in ledger.lines()))
        assert executor.submit(abs, -1).result(60) == 1
