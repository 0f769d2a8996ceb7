"""What the handlers of signals must not cut in two."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from scalepool._shims.interrupted import in_slices, undivided


def test_a_wait_ends_when_it_is_over_or_time_is_up() -> None:
    waits: list[float] = []

    def wait_s(timeout_s: float) -> None:
        waits.append(timeout_s)

    in_slices(wait_s, lambda: len(waits) == 3, None)
    assert len(waits) == 3
    in_slices(wait_s, lambda: True, None)
    in_slices(wait_s, lambda: False, 0.0)
    assert len(waits) == 3
    in_slices(time.sleep, lambda: False, 0.12)
    assert max(waits) <= 0.1


def test_a_handler_that_raises_leaves_no_event_taken() -> None:
    event = threading.Event()
    ready = threading.Event()

    def interrupt() -> None:
        assert ready.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ready.set()
            in_slices(event.wait, event.is_set, 20.0)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    with undivided:
        event.set()
    in_slices(event.wait, event.is_set, None)
