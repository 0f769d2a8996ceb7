"""The handlers of signals are put off while the pump decides, and run at once while it waits."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from scalepool._runtime.interrupts import Deferral

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLED = (signal.SIGINT, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(number: int = signal.SIGINT) -> None:
    signal.raise_signal(number)


class Stop(Exception):
    pass


def stop(number: int, frame: object) -> NoReturn:
    raise Stop(number)


def test_it_comes_through_while_nothing_is_decided() -> None:
    deferral = Deferral()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), deferral:
        deferral.working = False
        interrupt()
        steps.append("not reached")
    assert steps == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_put_off_while_something_is() -> None:
    deferral = Deferral()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), deferral:
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
        interrupt()
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    deferral.raise_noted()


@pytest.mark.parametrize("number", HANDLED)
def test_a_handler_of_the_users_own_that_raises_is_put_off_too(number: int) -> None:
    signal.signal(number, stop)
    deferral = Deferral()
    steps: list[str] = []
    with pytest.raises(Stop), deferral:
        interrupt(number)
        steps.append("finished")

    assert steps == ["finished"]
    assert signal.getsignal(number) is stop


def test_a_handler_of_the_users_own_is_called_once_and_stays() -> None:
    seen: list[int] = []

    def own(number: int, frame: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGINT, own)
    deferral = Deferral()
    with deferral:
        os.kill(os.getpid(), signal.SIGINT)
        deferral.working = False
        deferral.raise_noted()
        assert seen == [signal.SIGINT]
    assert seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own


def test_several_handlers_that_raise_are_all_called() -> None:
    for number in HANDLED:
        signal.signal(number, stop)
    deferral = Deferral()
    numbers: list[int] = []
    with deferral:
        for number in HANDLED:
            interrupt(number)
        deferral.working = False
        for _ in HANDLED:
            with pytest.raises(Stop) as caught:
                deferral.raise_noted()
            numbers.append(caught.value.args[0])
    assert sorted(numbers) == sorted(HANDLED)


def test_what_user_code_sets_inside_is_kept() -> None:
    with Deferral():
        signal.signal(signal.SIGINT, stop)
    assert signal.getsignal(signal.SIGINT) is stop


@pytest.mark.parametrize("setting", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_no_python_handles_is_left_alone(setting: signal.Handlers) -> None:
    signal.signal(signal.SIGUSR1, setting)
    with Deferral():
        assert signal.getsignal(signal.SIGUSR1) is setting
    assert signal.getsignal(signal.SIGUSR1) is setting


def test_elsewhere_than_in_the_main_thread_it_does_nothing() -> None:
    handlers: list[object] = []

    def work() -> None:
        with Deferral() as deferral:
            handlers.append(signal.getsignal(signal.SIGINT))
            assert not deferral.applies

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_inside_another_it_goes_on_waiting() -> None:
    deferral = Deferral()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), deferral:
        with deferral:
            interrupt()
        steps.append("inner")
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert steps == ["inner"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_opened_is_interrupted_and_what_is_inside_of_that_is_not() -> None:
    deferral = Deferral()
    steps: list[str] = []

    def decide() -> None:
        with deferral:
            interrupt()
            steps.append("decided")
        steps.append("not reached")

    def tear() -> None:
        interrupt()
        steps.append("not reached")

    for function, done in ((decide, ["decided"]), (tear, ["decided"])):
        with deferral:
            with pytest.raises(KeyboardInterrupt):
                deferral.open(function)
            assert deferral.working
        assert steps == done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_that_was_noted_is_raised_when_it_is_opened() -> None:
    deferral = Deferral()
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), deferral:
        interrupt()
        deferral.open(steps.append, "not reached")
    assert steps == []


def test_opened_elsewhere_it_only_calls() -> None:
    deferral = Deferral()
    assert deferral.open(int, "11", base=2) == 3
    with deferral:
        thread = threading.Thread(target=lambda: results.append(deferral.open(int, "7")))
        results: list[int] = []
        thread.start()
        thread.join()
    assert results == [7]
