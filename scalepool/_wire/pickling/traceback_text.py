"""The text of a worker's traceback, bounded.

The same text as ``multiprocessing.pool`` and ``concurrent.futures`` send: ``traceback.format_exception`` joined, chains
and groups included. Long ones lose their middle: a recursion through several functions may have 100 000 frames, of
which nobody reads more than both ends.

Every worker has this loaded, and most never use it: hence the imports inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import traceback
    from types import TracebackType

__all__ = ["format_traceback"]

# Frames kept at each end of one exception's traceback.
MAX_FRAMES_PER_END = 100
# Characters of the whole text; an exception message may be a dump of the data that caused it.
MAX_TEXT = 256 * 1024

_LEFT_OUT = r'  File "<(\d+) frames left out>", line \d+, in \.\.\.\n'


def format_traceback(error: BaseException) -> str:
    """Return the formatted traceback of an exception with its chain. Never raises."""
    try:
        text = _format(error)
    except BaseException as broken:  # noqa: BLE001 - a __str__ or __repr__ of the user's; the task's error matters more
        text = f"{type(error).__qualname__}: (its traceback cannot be formatted: {type(broken).__name__})\n"
    return text if len(text) <= MAX_TEXT else _without_middle(text)


def _format(error: BaseException) -> str:
    import re
    import traceback

    if not _is_long(error):
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    kind, tb = type(error), error.__traceback__
    head = traceback.TracebackException(kind, error, tb, limit=MAX_FRAMES_PER_END, compact=True)
    tail = traceback.TracebackException(kind, error, tb, limit=-MAX_FRAMES_PER_END, compact=True)
    _join(head, tail, error)
    return re.sub(_LEFT_OUT, r"  [... \1 frames left out ...]\n", "".join(head.format()))


def _is_long(error: BaseException) -> bool:
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if _length(current.__traceback__) > 2 * MAX_FRAMES_PER_END:
            return True
        todo += [current.__cause__, current.__context__]
        todo += getattr(current, "exceptions", None) or () if hasattr(type(current), "derive") else ()
    return False


def _length(tb: TracebackType | None) -> int:
    length = 0
    while tb is not None:
        tb = tb.tb_next
        length += 1
    return length


def _join(head: traceback.TracebackException, tail: traceback.TracebackException, error: BaseException) -> None:
    """Append the ends in ``tail`` to the beginnings in ``head``, all along the chain."""
    import traceback

    todo = [(head, tail, error)]
    while todo:
        first, last, current = todo.pop()
        left_out = _length(current.__traceback__) - 2 * MAX_FRAMES_PER_END
        if left_out > 0:
            mark = traceback.FrameSummary(f"<{left_out} frames left out>", 0, "...", lookup_line=False, line="")
            first.stack = traceback.StackSummary.from_list([*first.stack, mark, *last.stack])
        else:
            missing = max(_length(current.__traceback__) - MAX_FRAMES_PER_END, 0)
            first.stack = traceback.StackSummary.from_list([*first.stack, *list(last.stack)[-missing:]] if missing else
                                                           list(first.stack))  # fmt: skip
        for name in ("__cause__", "__context__"):
            nested = getattr(first, name), getattr(last, name), getattr(current, name)
            if all(part is not None for part in nested):
                todo.append(nested)
        members = getattr(first, "exceptions", None), getattr(last, "exceptions", None)
        if members[0] and members[1]:
            todo += list(zip(members[0], members[1], current.exceptions, strict=True))  # type: ignore[attr-defined]


def _without_middle(text: str) -> str:
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - MAX_TEXT} characters left out ...]\n{text[-half:]}"
