"""Records of workers are handled by the driver's loggers; the encoding alone."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._runtime import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def forwarding() -> Iterator[list[str]]:
    """Forward records as a worker does; pytest's own handlers are off meanwhile."""
    texts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
        patch.setattr(logging.getLogger(), "handlers", [])
        logs.forward(texts.append)
        yield texts


class Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def arrived(texts: list[str]) -> list[logging.LogRecord]:
    handler = Keep()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        logs.handle("\n".join(texts))
    finally:
        root.removeHandler(handler)
    return handler.records


def test_a_record_arrives_as_it_was() -> None:
    log = logging.getLogger("mine.own")
    with forwarding() as sent:
        log.warning("%s of %d\nlines", "two", 3, extra={"request": {"id": 7}, "odd": {1}})
        log.error("%(a)s", {"a": 1.5})
    first, second = arrived(sent)

    assert (first.name, first.levelno, first.msg, first.args) == ("mine.own", 30, "%s of %d\nlines", ("two", 3))
    assert (first.request, first.odd, first.funcName) == ({"id": 7}, "{1}", "test_a_record_arrives_as_it_was")  # type: ignore[attr-defined]
    assert (first.getMessage(), second.getMessage()) == ("two of 3\nlines", "1.5")
    assert first.process and first.processName and first.created <= second.created


class Lock:
    def __str__(self) -> str:
        return "a lock"


class Broken:
    def __str__(self) -> str:
        raise LookupError("no text")


def test_arguments_that_do_not_travel_are_formatted_where_they_are() -> None:
    log = logging.getLogger("mine")
    with forwarding() as sent:
        log.warning("have %s", Lock())
        log.warning(Lock())
        try:
            raise ValueError("inner")
        except ValueError:
            log.exception("failed")
    first, second, third = arrived(sent)

    assert (first.msg, first.args, second.msg) == ("have a lock", None, "a lock")
    assert "ValueError: inner" in logging.Formatter().format(third)


def test_what_cannot_be_formatted_is_said_as_logging_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    with forwarding() as sent:
        logging.getLogger("mine").warning("have %s", Broken())

    assert not sent
    assert capsys.readouterr().err.count("--- Logging error ---") == 1


def test_a_handler_of_ones_own_has_it() -> None:
    log = logging.getLogger("mine.handled")
    handler = Keep()
    with forwarding() as sent:
        log.addHandler(handler)
        log.warning("kept")
        log.removeHandler(handler)
        log.addHandler(logging.NullHandler())
        log.warning("travels")
    log.handlers.clear()

    assert [record.msg for record in handler.records] == ["kept"]
    assert len(sent) == 1


def test_levels_follow_and_go_again() -> None:
    levels = {"": 10, "mine.one": 40, "mine.two": 20, "\0": 5}
    before = logs.current_levels()
    logs.apply_levels(levels, before)
    one, two = logging.getLogger("mine.one"), logging.getLogger("mine.two")
    assert (logging.getLogger().level, one.level, two.level, logging.root.manager.disable) == (10, 40, 20, 5)
    two.setLevel(30)  # by the user's code, meanwhile
    logs.apply_levels(before, levels)

    assert (one.level, two.level, logging.root.manager.disable) == (0, 30, 0)
    two.setLevel(0)
    assert logs.current_levels() == before


def test_a_disabled_logger_is_one_that_drops_all() -> None:
    log = logging.getLogger("mine.disabled")
    log.disabled = True
    level = logs.current_levels()["mine.disabled"]
    log.disabled = False

    assert level > logging.CRITICAL


def test_without_logging_there_are_no_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "logging")

    assert logs.current_levels() == {}


def test_a_handler_that_raises_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("mine.raising")
    with forwarding() as sent:
        log.warning("first")
        logging.getLogger("mine").warning("second")

    def refuse(_record: Any) -> bool:
        raise LookupError("a filter")

    log.addFilter(refuse)
    records = arrived(sent)
    log.filters.clear()

    assert [record.msg for record in records] == ["second"]
    assert "LookupError: a filter" in capsys.readouterr().err
