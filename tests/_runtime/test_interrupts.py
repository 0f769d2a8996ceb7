"""Ctrl-C is put off while the pump decides, and comes through while it waits."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from scalepool._runtime.interrupts import Deferral

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_comes_through_while_nothing_is_decided() -> None:
    deferral = Deferral()
    with pytest.raises(KeyboardInterrupt), deferral:
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_put_off_while_something_is() -> None:
    deferral = Deferral()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), deferral:
        deferral.working = True
        interrupt()
        steps.append("finished")
        deferral.working = False
        deferral.raise_noted()
        steps.append("not reached")

    assert steps == ["finished"]
    deferral.raise_noted()  # once only


def test_one_that_was_noted_is_raised_at_the_latest_at_the_end() -> None:
    deferral = Deferral()
    with pytest.raises(KeyboardInterrupt), deferral:
        deferral.working = True
        interrupt()
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_own_stays() -> None:
    seen: list[int] = []

    def own(number: int, frame: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGINT, own)
    deferral = Deferral()
    with deferral:
        deferral.working = True
        assert signal.getsignal(signal.SIGINT) is own
        os.kill(os.getpid(), signal.SIGINT)
        assert seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own


def test_elsewhere_than_in_the_main_thread_it_does_nothing() -> None:
    handlers: list[object] = []

    def work() -> None:
        with Deferral():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
