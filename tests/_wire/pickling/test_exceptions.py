from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import threading
import traceback
from typing import Any

import pytest

from scalepool._wire.pickling.exceptions import (
    RemoteError,
    ResultEncodingError,
    decode_exception,
    encode_exception,
    encode_result,
)
from scalepool._wire.pickling.traceback_text import MAX_TEXT, format_traceback
from scalepool.errors import RemoteTraceback, SerializationError


def travel(error: BaseException, text: str = "text") -> Any:
    return decode_exception(encode_exception(error, text), RemoteTraceback)


class TwoArguments(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


class Wrapping(Exception):
    """Pickle reads it back without complaint, but not the same."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")
        self.code = code


class WithLock(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message, threading.Lock())
        self.lock, self.number = threading.Lock(), 5


class Slotted(Exception):
    __slots__ = ("value",)

    def __init__(self, *, value: int) -> None:
        super().__init__()
        self.value = value


class Lying(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("I am not an exception",)


class Exiting(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (3,)


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Picky(OSError):
    def __init__(self, *, path: str) -> None:
        super().__init__(2, "missing", path)


class OnlyHere(Exception):
    """Reads back in the worker, not in the parent."""

    broken = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _only_here, self.args


def _only_here(*args: Any) -> OnlyHere:
    if OnlyHere.broken:
        raise SystemExit("not in the parent")
    return OnlyHere(*args)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        KeyError("k"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(5),
        OSError(2, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        subprocess.CalledProcessError(3, ["ls"], b"out"),
        SerializationError("message", "path"),
        ImportError("no", name="mod", path="p"),
    ],
)
def test_ordinary_exceptions_arrive_as_themselves(error: BaseException) -> None:
    back = travel(error, "Traceback ...")
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert isinstance(back.__cause__, RemoteTraceback)
    assert back.__cause__.tb == "Traceback ..."


def test_classes_that_pickle_cannot_rebuild_are_rebuilt_without_init() -> None:
    back = travel(TwoArguments(1, 2))
    assert (type(back), back.args, back.a, back.b) == (TwoArguments, ("1 and 2",), 1, 2)
    assert str(travel(Wrapping(5))) == "code 5"
    assert travel(Slotted(value=3)).value == 3
    back = travel(Picky(path="here"))
    assert (type(back), back.errno, back.filename, str(back)) == (Picky, 2, "here", "[Errno 2] missing: 'here'")


def test_what_does_not_pickle_is_replaced_by_its_repr() -> None:
    back = travel(WithLock("message"))
    assert type(back) is WithLock
    assert back.number == 5
    assert back.args[0] == "message"
    assert back.args[1].startswith("<unlocked _thread.lock")
    assert back.lock.startswith("<unlocked _thread.lock")


def test_lies_and_exits_do_not_get_through() -> None:
    assert type(travel(Lying("x"))) is Lying
    assert type(travel(Exiting("x"))) is Exiting
    assert type(travel(NoText())) is NoText


def test_exceptions_made_by_value() -> None:
    class Local(Exception):
        pass

    assert type(travel(Local(1))) is Local


def test_a_failure_in_the_parent_gives_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_exception(OnlyHere("a", 2), "text")
    assert type(decode_exception(data, RemoteTraceback)) is OnlyHere
    monkeypatch.setattr(OnlyHere, "broken", True)
    back = decode_exception(data, RemoteTraceback)
    assert isinstance(back, RemoteError)
    assert back.class_name == f"{__name__}.OnlyHere"
    assert back.args_reprs == ("'a'", "2")
    assert "OnlyHere: ('a', 2)" in str(back)
    assert back.__cause__.tb == "text"
    again = pickle.loads(pickle.dumps(back))
    assert str(again) == str(back)


def test_a_class_that_does_not_pickle_gives_the_stand_in() -> None:
    class Meta(type):
        def __reduce__(cls) -> Any:
            raise TypeError("no")

    lock = threading.Lock()

    class Hopeless(Exception):
        def hold(self) -> object:
            return lock

    back = travel(Hopeless("why"))
    assert isinstance(back, RemoteError)
    assert back.message == "why"


def test_chains_survive() -> None:
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise TwoArguments(1, 2)  # noqa: B904 - the implicit context is the point
        except TwoArguments as inner:
            raise ValueError("last") from inner
    except ValueError as error:
        text = format_traceback(error)
        back = travel(error, text)
    assert "KeyError: 'first'" in back.__cause__.tb
    assert "direct cause" in back.__cause__.tb
    inner = back.__context__
    assert type(inner) is TwoArguments
    assert type(inner.__context__) is KeyError
    assert not inner.__suppress_context__
    assert "The above exception was the direct cause" in "".join(traceback.format_exception(back))


def test_cycles_and_endless_chains_end() -> None:
    a, b = ValueError("a"), ValueError("b")
    a.__context__, b.__context__ = b, a
    back = travel(a)
    assert back.__context__.__context__ is back
    last: BaseException = ValueError(0)
    for number in range(1000):
        error = ValueError(number)
        error.__cause__ = last
        last = error
    assert travel(last).args == (999,)


def test_falsy_exceptions() -> None:
    class Falsy(Exception):
        def __bool__(self) -> bool:
            return False

    error = ValueError(1)
    error.__cause__ = Falsy("x")
    assert travel(error).__context__.args == ("x",)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with 3.11")
def test_notes_and_groups() -> None:
    class MyGroup(ExceptionGroup):  # noqa: F821
        def __new__(cls, message: str, errors: Any, extra: int) -> Any:
            return super().__new__(cls, message, errors)

        def __init__(self, message: str, errors: Any, extra: int) -> None:
            self.extra = extra

    error = TwoArguments(1, 2)
    error.add_note("a note")
    assert travel(error).__notes__ == ["a note"]
    member = ValueError("m")
    member.__cause__ = KeyError("its cause")
    group = MyGroup("g", [member, error, ExceptionGroup("inner", [WithLock("x")])], 7)  # noqa: F821
    group.add_note("on the group")
    back = travel(group)
    assert type(back) is MyGroup
    assert (back.message, back.extra, back.__notes__) == ("g", 7, ["on the group"])
    assert [type(e).__name__ for e in back.exceptions] == ["ValueError", "TwoArguments", "ExceptionGroup"]
    assert back.exceptions[0].__cause__.args == ("its cause",)
    assert type(back.exceptions[2].exceptions[0]) is WithLock
    assert back.subgroup(TwoArguments).exceptions[0].b == 2
    base = travel(BaseExceptionGroup("b", [KeyboardInterrupt()]))  # noqa: F821
    assert type(base) is BaseExceptionGroup  # noqa: F821
    assert type(base.exceptions[0]) is KeyboardInterrupt


def test_results_that_do_not_pickle() -> None:
    lock = threading.Lock()
    with pytest.raises(ResultEncodingError) as caught:
        encode_result([lock], oob_threshold=1)
    assert "cannot pickle" in caught.value.exc_repr
    assert caught.value.value_repr == repr([lock])
    assert type(travel(caught.value)) is ResultEncodingError
    assert travel(caught.value).value_repr == repr([lock])

    class NoRepr:
        def __reduce__(self) -> Any:
            raise ValueError("refused")

        def __repr__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(ResultEncodingError, match="whose repr\\(\\) raises ZeroDivisionError"):
        encode_result(NoRepr(), oob_threshold=1)


def test_results_that_pickle() -> None:
    assert encode_result([1], oob_threshold=1).data == pickle.dumps([1], 5)


# --- traceback text


def test_text_is_that_of_the_standard_library() -> None:
    try:
        try:
            raise KeyError(1)
        except KeyError as inner:
            raise ValueError(2) from inner
    except ValueError as error:
        assert format_traceback(error) == "".join(traceback.format_exception(type(error), error, error.__traceback__))


def deep(depth: int) -> BaseException:
    """Return an exception with a traceback of many different-looking frames."""

    def ping(n: int) -> None:
        pong(n - 1) if n else chained()

    def pong(n: int) -> None:
        ping(n - 1) if n else chained()

    def chained() -> None:
        try:
            raise KeyError("innermost")
        except KeyError as inner:
            raise ValueError("deep") from inner

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 1000)
    try:
        ping(depth)
    except ValueError as error:
        return error
    finally:
        sys.setrecursionlimit(limit)
    raise AssertionError


def test_long_tracebacks_lose_their_middle() -> None:
    error = deep(2000)
    text = format_traceback(error)
    assert len(text) < 60_000
    assert "  [... 1803 frames left out ...]\n" in text
    assert text.count("in ping") + text.count("in pong") <= 200
    assert "KeyError: 'innermost'" in text
    assert text.endswith("ValueError: deep\n")
    assert text.index("in deep") < text.index("left out") < text.rindex("in chained")


def test_a_hundred_thousand_frames() -> None:
    tb = deep(500).__traceback__
    assert tb is not None
    from types import TracebackType

    for _ in range(100_000):
        tb = TracebackType(tb, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    text = format_traceback(ValueError("x").with_traceback(tb))
    assert "frames left out" in text
    assert text.endswith("ValueError: x\n")
    while tb is not None:  # taken apart one by one: freeing the chain at once recurses
        tb = tb.tb_next


def test_huge_and_broken_messages() -> None:
    assert len(format_traceback(ValueError("x" * 10_000_000))) < MAX_TEXT + 100
    assert "NoText" in format_traceback(NoText())


# --- classes that fight back


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class Immutable(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("immutable")


class Other(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, ("I am another",)


def test_a_text_that_exits_does_not_end_the_worker() -> None:
    assert type(travel(Exits("x"))) is Exits
    assert "Exits" in format_traceback(Exits("x"))


@pytest.mark.parametrize("error", [FrozenError(3), Immutable("x"), Other("x")], ids=lambda error: type(error).__name__)
def test_classes_that_forbid_attributes_or_lie_arrive_as_themselves(error: BaseException) -> None:
    back = travel(error, "text")
    assert type(back) is type(error)
    assert back.args == error.args
    assert back.__cause__.tb == "text"


def test_suppressed_contexts_stay_suppressed() -> None:
    def fail() -> None:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None

    try:
        fail()
    except ValueError as error:
        back = travel(error, format_traceback(error))
    assert back.__suppress_context__
    assert "KeyError: 'hidden'" not in "".join(traceback.format_exception(back))
