"""``logging`` records of workers: made in a worker, handled by the loggers of the driver.

The levels are the driver's, taken when a group is opened, so that what it would drop never travels. Where the worker
has a handler of its own for a record (an initializer or an import installed it), that handler has it, and it does not
travel: nothing is said twice. A ``NullHandler`` is no handler.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

__all__ = ["Levels", "apply_levels", "current_levels", "forward", "handle"]

Levels = dict[str, int]
"""Level of each logger that has one; the root's name is empty. ``_DISABLED`` is not a logger."""

_DISABLED: Final = "\0"
_NEVER: Final = 1 << 20
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def current_levels() -> Levels:
    """Return the levels of this process; nothing where logging has not been loaded."""
    logging: Any = sys.modules.get("logging")
    if logging is None:
        return {}
    root = logging.getLogger()
    levels: Levels = {"": root.level}
    for name, logger in list(root.manager.loggerDict.items()):
        level = _NEVER if getattr(logger, "disabled", False) else getattr(logger, "level", 0)
        if level:
            levels[name] = level
    if root.manager.disable:
        levels[_DISABLED] = root.manager.disable
    return levels


def apply_levels(levels: Mapping[str, int], before: Mapping[str, int]) -> None:
    """Set the levels of this process, which were set to ``before`` by the last call."""
    import logging

    if levels.get(_DISABLED, 0) != before.get(_DISABLED, 0):
        logging.disable(levels.get(_DISABLED, 0))
    for name, old in before.items():
        if name not in levels and name != _DISABLED and logging.getLogger(name).level == old:
            logging.getLogger(name).setLevel(logging.NOTSET)
    for name, level in levels.items():
        if name != _DISABLED and before.get(name) != level:
            logging.getLogger(name).setLevel(level)


def forward(put: Callable[[str], object]) -> Callable[[], None]:
    """From now on pass records that no handler of this process takes to ``put``, as text without line ends.

    Returns
    -------
    Callable
        Ends that.
    """
    import logging

    own = logging.Logger.callHandlers

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if _has_handler(logger, logging.NullHandler):
            own(logger, record)
            return
        try:
            text = _encode(record)
        except Exception:  # noqa: BLE001 - the user's __str__ or format: said where logging says it, on stderr
            logging.Handler().handleError(record)
        else:
            put(text)

    def resume() -> None:
        logging.Logger.callHandlers = own  # type: ignore[method-assign]

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign, assignment]
    return resume


def _has_handler(logger: logging.Logger | None, null: type[Any]) -> bool:
    while logger is not None:
        for handler in logger.handlers:
            if not isinstance(handler, null):
                return True
        logger = logger.parent if logger.propagate else None
    return False


def _encode(record: logging.LogRecord) -> str:
    fields = dict(record.__dict__)
    if type(record.msg) is not str or not _is_plain(record.args):
        fields["msg"], fields["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        import logging

        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields["exc_info"] = None
    fields.pop("message", None)  # of a formatter that saw it before
    return json.dumps({name: value if type(value) in _PLAIN else _portable(value) for name, value in fields.items()})


def _is_plain(args: Any) -> bool:
    values = args.values() if type(args) is dict else args or ()
    return all(type(value) in _PLAIN for value in values)


def _portable(value: Any) -> Any:
    """Return an ``extra`` value, or what to show of it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


def handle(text: str) -> None:
    """Let the loggers of this process handle records, one in each line. Never raises an `Exception`."""
    import logging

    for line in text.splitlines():
        fields = json.loads(line)
        if type(fields["args"]) is list:
            fields["args"] = tuple(fields["args"])
        record = logging.makeLogRecord(fields)
        logger = logging.getLogger(record.name)
        try:
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        except Exception:  # noqa: BLE001 - a filter or handler of the user's; other records and all results go on
            logging.Handler().handleError(record)
