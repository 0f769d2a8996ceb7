from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from scalepool.cli import look as look_module
from scalepool.cli.look import Frame, parse_dump
from scalepool.cli.stack import _duration

if TYPE_CHECKING:
    from typing import Any

EXECUTOR = "/lib/scalepool/_runtime/executor.py"
DUMP = f"""Stack (most recent call first):
  File "/home/me/model.py", line 12 in fit
  File "/home/me/with space, line 3 in x.py", line 7 in train
  File "/lib/scalepool/_shims/chunks.py", line 80 in __call__
  File "{EXECUTOR}", line 101 in _call
  File "{EXECUTOR}", line 82 in run
  File "<string>", line 1 in <module>
"""
OWN = (Frame("/home/me/model.py", "12", "fit"), Frame("/home/me/with space, line 3 in x.py", "7", "train"))


def judged(dump: str, head: dict[str, Any]) -> look_module.Look:
    return look_module.judge(1, parse_dump(dump), head)


def test_the_last_dump_counts() -> None:
    frames = parse_dump('Stack (most recent call first):\n  File "old.py", line 1 in old\n' + DUMP)
    assert tuple(frames[:2]) == OWN
    assert len(frames) == 6


@pytest.mark.parametrize("text", ["", "nonsense", "Stack (most recent call first):\n", '  File "x", line', "\0\0"])
def test_what_is_no_stack_has_no_frames(text: str) -> None:
    assert parse_dump(text) == []


def test_a_running_task_shows_the_users_frames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_module.time, "time", lambda: 1005.0)
    found = judged(DUMP, {"name": "train", "since": 1000.0})

    assert (found.state, found.task, found.running_s, found.stack) == ("running", "train", 5.0, OWN)


def test_a_note_of_an_earlier_task_is_not_believed() -> None:
    found = judged(DUMP, {"name": "evaluate", "since": 1000.0})
    assert (found.task, found.running_s) == ("train", None)


def test_a_method_and_a_task_without_a_note() -> None:
    assert judged(DUMP, {"name": "Model.train", "since": 1000.0}).task == "Model.train"
    assert judged(DUMP, {}).task == "train"


def test_a_worker_outside_of_any_task_is_idle() -> None:
    assert (
        judged('Stack (most recent call first):\n  File "worker.py", line 3 in _loop\n', {"name": "x"}).state == "idle"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_a_note_that_is_no_json_is_no_note(tmp_path: Any) -> None:
    path = tmp_path / "file"
    for content in (b"", b"{", b"[1]", b"\0" * 100):
        path.write_bytes(b"\0" * 24 + content)
        assert look_module._note(path) == {}
    path.write_bytes(b"\0" * 24 + json.dumps({"name": "f"}).encode() + b"\0" * 50)
    assert look_module._note(path) == {"name": "f"}


def test_a_process_that_is_gone_is_said_to_be() -> None:
    (found,) = look_module.look([2**22 + 1])
    assert (found.state, found.note) == ("unknown", "has ended")
