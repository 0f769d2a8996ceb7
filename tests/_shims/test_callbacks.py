from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from scalepool._shims.callbacks import CallbackThread

if TYPE_CHECKING:
    import pytest


def test_deliveries_run_in_order_in_a_thread_that_starts_with_the_first() -> None:
    callbacks = CallbackThread("test-callbacks")
    callbacks.join()
    seen: list[Any] = []
    for number in range(100):
        callbacks.post(lambda run, number=number: seen.append((number, run, threading.current_thread().name)))  # type: ignore[misc]
    callbacks.stop()
    callbacks.join()

    assert seen == [(number, True, "test-callbacks") for number in range(100)]


def test_after_discard_user_code_is_skipped() -> None:
    callbacks = CallbackThread("test-callbacks")
    begun, go_on = threading.Event(), threading.Event()
    seen: list[bool] = []

    def first(run: bool) -> None:
        begun.set()
        go_on.wait()
        seen.append(run)

    callbacks.post(first)
    callbacks.post(seen.append)
    begun.wait()
    callbacks.discard()
    go_on.set()
    callbacks.stop()
    callbacks.join()

    assert seen == [True, False]


def test_after_stop_waiters_are_told_at_once() -> None:
    callbacks = CallbackThread("test-callbacks")
    callbacks.stop()
    seen: list[bool] = []
    callbacks.post(seen.append)

    assert seen == [False]


def test_a_failing_callback_is_shown_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))
    callbacks = CallbackThread("test-callbacks")
    seen: list[bool] = []

    def fail(run: bool) -> None:
        raise LookupError

    callbacks.post(fail)
    callbacks.post(seen.append)
    callbacks.stop()
    callbacks.join()

    assert shown == [LookupError]
    assert seen == [True]


def test_a_callback_knows_where_it_is_and_may_stop_its_thread() -> None:
    callbacks = CallbackThread("test-callbacks")
    seen: list[bool] = []

    def stop(run: bool) -> None:
        seen.append(callbacks.is_current())
        callbacks.stop()
        callbacks.join()

    callbacks.post(stop)
    callbacks.join()

    assert seen == [True]
    assert not callbacks.is_current()
