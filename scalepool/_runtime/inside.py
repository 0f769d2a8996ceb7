"""What goes on inside a worker, for whoever asks: the stack of its task, or those of all calls that an actor runs.

Loaded when somebody asks. Called in the tick thread, so what the other threads do changes meanwhile: each thing is
looked at once, and what vanishes in between is left out.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.functions import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

    from scalepool._runtime.concurrency import Concurrency
    from scalepool._runtime.executor import Executor

__all__ = ["Frame", "answer"]

Frame = tuple[str, int, str]
"""File, line and function."""

_MAX_FRAMES: Final = 100
_MAX_CALL_FRAMES: Final = 30
_OURS: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep  # noqa: PTH100, PTH120 - no Path needed
_OPAQUE: Final = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable")
"""Types that hide what is awaited inside of them."""
_SUSPENDED: Final = (CoroutineType, AsyncGeneratorType, GeneratorType)


def answer(executor: Executor, concurrency: Concurrency | None, waiting: int, room_bytes: int) -> bytes:
    """Return, as JSON in ASCII, what this worker does.

    Parameters
    ----------
    executor
        Runs its tasks.
    concurrency
        Runs the calls of an actor that runs several at once.
    waiting
        Tasks that it holds and has not begun.
    room_bytes
        What the answer may take: stacks are left out if need be.
    """
    stack: list[Frame] = []
    calls: list[dict[str, Any]] = []
    note = ""
    try:
        stack = _main_frames() if executor.item is not None else []
        if concurrency is not None:
            calls = _calls(concurrency)
            waiting += concurrency.waiting
    except Exception as error:  # noqa: BLE001 - who looks must never do harm: it is told instead
        note = f"cannot be looked into: {type(error).__name__}: {error}"
    found: dict[str, Any] = {
        "stack": stack, "calls": calls, "left_out": 0, "waiting": waiting, "actor": _actor(), "note": note[:1000]
    }  # fmt: skip
    while True:
        data = json.dumps(found).encode("ascii")
        if len(data) <= room_bytes:
            return data
        found["stack"] = stack = stack[: len(stack) // 2]
        found["left_out"] += sum(one["count"] for one in calls[len(calls) // 2 :])
        found["calls"] = calls = calls[: len(calls) // 2]


def _actor() -> dict[str, str]:
    """Return class and name of the actor that this process is; empty: it is none."""
    instance = sys.modules.get("scalepool._runtime.instance")
    if instance is None or not instance.actor_id():
        return {}
    return {"class": instance.actor_class(), "name": instance.actor_name()}


# ---- the main thread ----


def _main_frames() -> list[Frame]:
    """Return the frames of the main thread, the innermost first; the middle may be cut."""
    frames = sys._current_frames()
    found: list[Frame] = []
    elsewhere = _code_of("Concurrency.call")
    frame = frames.get(threading.main_thread().ident or 0)
    while frame is not None:
        if elsewhere is not None and frame.f_code is elsewhere:  # the constructor runs in the event loop's thread
            found = _loop_frames(frames)
        found.append(_entry(frame))
        frame = frame.f_back
    if len(found) > 2 * _MAX_FRAMES:
        left_out = len(found) - 2 * _MAX_FRAMES
        found[_MAX_FRAMES:-_MAX_FRAMES] = [("...", left_out, f"{left_out} more frames")]
    return found


def _loop_frames(frames: dict[int, FrameType]) -> list[Frame]:
    from scalepool._runtime.instance import LOOP_NAME

    thread = next((one for one in threading.enumerate() if one.name == LOOP_NAME), None)
    frame = None if thread is None else frames.get(thread.ident or 0)
    found: list[Frame] = []
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        found.append(_entry(frame))
        frame = frame.f_back
    return found if frame is not None and frame.f_code.co_name == "construct" else []


# ---- the calls of an actor ----


def _calls(concurrency: Concurrency) -> list[dict[str, Any]]:
    """Return the calls that run, the oldest first; those of one name at one place are counted together."""
    frames, now = sys._current_frames(), monotonic_s()
    places: dict[tuple[str, tuple[Frame, ...]], dict[str, Any]] = {}
    in_loop = False
    for task, (fn, since, thread) in sorted(concurrency.begun.items(), key=lambda one: one[1][1]):
        name = "" if fn is None else name_of(fn)[:200]
        stack: list[Frame] = []
        if not concurrency.loop_thread:
            stack = _above(frames.get(thread), "Concurrency._run") or []
        elif (coroutine := concurrency.tasks.get(task)) is not None:
            awaited = coroutine.get_coro()
            if isinstance(awaited, CoroutineType) and awaited.cr_running:
                stack = _above(frames.get(concurrency.loop_thread), "Concurrency._await") or []
                in_loop = True
            else:
                stack = _awaited(awaited)
        stack = stack[:_MAX_CALL_FRAMES]
        same = places.setdefault(
            (name, tuple(stack)), {"name": name, "running_s": round(now - since, 3), "count": 0, "stack": stack}
        )
        same["count"] += 1
    found = list(places.values())
    if concurrency.loop_thread and not in_loop and (stack := _of_loop(frames.get(concurrency.loop_thread))):
        found.insert(0, {"name": "its event loop", "running_s": None, "count": 0, "stack": stack[:_MAX_CALL_FRAMES]})
    return found


def _of_loop(frame: FrameType | None) -> list[Frame]:
    """Return where the event loop is in code that is neither a call's nor its own: nothing else can go on."""
    if frame is None or frame.f_code.co_name in ("select", "poll") or _above(frame, "Concurrency._await") is not None:
        return []
    found: list[Frame] = []
    while frame is not None and not frame.f_code.co_filename.endswith(("asyncio/events.py", "asyncio/base_events.py")):
        found.append(_entry(frame))
        frame = frame.f_back
    return found if frame is not None else []


def _above(frame: FrameType | None, boundary: str) -> list[Frame] | None:
    """Return the user's frames above one of ours, or ``None`` where that is not in the stack."""
    code = _code_of(boundary)
    found: list[FrameType] = []
    while frame is not None and frame.f_code is not code:
        found.append(frame)
        frame = frame.f_back
    return None if frame is None else _without_ours(_entry(one) for one in found)


def _awaited(awaitable: object) -> list[Frame]:
    """Return where a coroutine that is suspended is, the innermost first."""
    found: list[Frame] = []
    while len(found) < _MAX_FRAMES:
        # By their exact types: nothing of a user's own class is called here.
        if type(awaitable).__name__ in _OPAQUE:
            awaitable = next((one for one in gc.get_referents(awaitable) if type(one) in _SUSPENDED), None)
        frame: FrameType | None = None
        if type(awaitable) is CoroutineType:
            frame, awaitable = awaitable.cr_frame, awaitable.cr_await
        elif type(awaitable) is AsyncGeneratorType:
            frame, awaitable = awaitable.ag_frame, awaitable.ag_await
        elif type(awaitable) is GeneratorType:
            frame, awaitable = awaitable.gi_frame, awaitable.gi_yieldfrom
        if frame is None:
            break
        found.append(_entry(frame))
    return _without_ours(reversed(found))


def _without_ours(frames: Iterable[Frame]) -> list[Frame]:
    """Leave out our frames below the user's."""
    found = list(frames)
    while found and found[-1][0].startswith(_OURS[-300:]):
        found.pop()
    return found


def _code_of(qualname: str) -> CodeType | None:
    """Return the code of a function of `concurrency`, if that is loaded."""
    found: Any = sys.modules.get("scalepool._runtime.concurrency")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return getattr(found, "__code__", None)


def _entry(frame: FrameType) -> Frame:
    code = frame.f_code
    return code.co_filename[-300:], frame.f_lineno or 0, code.co_name[:100]
