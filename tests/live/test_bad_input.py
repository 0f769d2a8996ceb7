"""What users get wrong: each a clear error or the right result, and the session works on."""

from __future__ import annotations

import gc
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live import remote_tasks as tasks
from live.helpers import run, wait_for
from live.pool_actors import Doubler
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import ObjectLostError, SerializationError, SessionError, TaskTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def goes_on() -> Iterator[None]:
    yield
    assert scalepool.get(tasks.add.remote(1), timeout=60) == 2


# ---- functions ----


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: int) -> None:
        self.x = x

    def __call__(self, y: int) -> int:
        return self.x * y


@pytest.mark.parametrize("wrong", [5, "f", [len]])
def test_not_a_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes a function"):
        scalepool.remote(wrong)


@pytest.mark.parametrize("function", [Slotted(3), partial(Slotted.__call__, Slotted(3)), Slotted(3).__call__])
def test_objects_with_slots_and_their_methods(function: Any) -> None:
    assert scalepool.get(scalepool.remote(function).remote(4)) == 12
    assert scalepool.get(scalepool.put(Slotted(7))).x == 7
    assert scalepool.get(scalepool.remote(lambda thing: thing(2)).remote(Slotted(7))) == 14


def test_builtins_and_partials() -> None:
    assert scalepool.get(scalepool.remote(len).remote("abc")) == 3
    assert scalepool.get(scalepool.remote(partial(pow, 2)).remote(10)) == 1024


def test_a_function_redefined_under_its_name() -> None:
    namespace: dict[str, Any] = {"scalepool": scalepool, "__name__": "__main__"}
    refs = []
    for number in range(3):
        exec(f"@scalepool.remote\ndef f(x):\n    return x + {number}", namespace)
        refs.append(namespace["f"].remote(10))
    assert scalepool.get(refs) == [10, 11, 12]


def test_a_function_that_is_called_directly_or_twice_remote() -> None:
    with pytest.raises(TypeError, match=r"add is a remote function: call add\.remote\(\.\.\.\)"):
        tasks.add(1, 2)
    with pytest.raises(TypeError, match="already"):
        scalepool.remote(tasks.add)
    with pytest.raises(TypeError, match="give options"):
        scalepool.remote(len, num_returns=2)  # type: ignore[call-overload]


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        scalepool.get(tasks.add.remote())
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        scalepool.get(tasks.add.remote(1, nothing=2))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"unknown": 1}, TypeError, "unknown option 'unknown'"),
        ({"num_return": 2}, TypeError, "unknown option 'num_return'"),
        ({"num_returns": 1.0}, ValueError, "num_returns must be"),
        ({"num_returns": 10_001}, ValueError, "num_returns must be"),
        ({"num_returns": "all"}, ValueError, "num_returns must be"),
        ({"timeout_s": -1}, ValueError, "timeout"),
        ({"timeout_s": 0}, ValueError, "timeout"),
        ({"timeout_s": "1"}, (TypeError, ValueError), "timeout"),
        ({"name": 5}, TypeError, "name must be a str"),
        ({"retry_exceptions": ["KeyError"]}, TypeError, "exception classes"),
        ({"generator_backpressure": 0}, ValueError, "generator_backpressure"),
    ],
)
def test_options(options: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        tasks.add.options(**options)
    with pytest.raises(error, match=text):
        scalepool.remote(**options)


# ---- arguments and results ----


def test_a_generator_as_an_argument_is_named() -> None:
    for call in (
        lambda: tasks.add.remote(n for n in range(3)),
        lambda: tasks.add.remote([1, {"x": (n for n in range(3))}]),
    ):
        with pytest.raises(SerializationError, match=r"args\[0\].*generator"):
            call()
    with pytest.raises(SerializationError, match=r"value.*generator"):
        scalepool.put(n for n in range(3))
    with pytest.raises(SerializationError, match="generator"):
        scalepool.get(scalepool.remote(lambda: (n for n in range(3))).remote())


class Holds(Exception):
    """Has state that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class NeedsTwo(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_exceptions_that_cannot_be_pickled() -> None:
    def holds() -> None:
        raise Holds("a lock")

    def needs() -> None:
        raise NeedsTwo(1, 2)

    for function, text in ((holds, "a lock"), (needs, "1 and 2")):
        ref = scalepool.remote(function).remote()
        with pytest.raises(Exception, match=text):
            scalepool.get(ref)
        with pytest.raises(Exception, match=text):
            scalepool.get(tasks.add.remote(ref))


@pytest.mark.parametrize(("returns", "made"), [(2, [1]), (2, [1, 2, 3]), (3, 5), (2, None)])
def test_the_wrong_number_of_values(returns: int, made: Any) -> None:
    refs = scalepool.remote(num_returns=returns)(lambda: made).remote()
    assert len(refs) == returns
    for ref in refs:
        with pytest.raises((ValueError, TypeError), match=f"num_returns={returns} returned"):
            scalepool.get(ref, timeout=60)


def test_a_reference_inside_of_its_own_value() -> None:
    box: list[Any] = []
    ref = scalepool.put(box)
    box.append(ref)
    assert scalepool.get(ref) == [], "a value is what it was when it was put"
    outer = scalepool.put(box)
    assert scalepool.get(scalepool.get(outer)[0]) == []
    box.append(box)
    again = scalepool.get(scalepool.put(box))
    assert again[1] is again
    assert scalepool.get(again[0]) == []
    del box, ref, outer, again
    session = existing()
    assert isinstance(session, DriverSession)

    def values() -> int:
        gc.collect()
        return len(session.hub._state.values)  # type: ignore[union-attr]

    wait_for(lambda: values() == 0)


# ---- references ----


@pytest.mark.parametrize("wrong", [5, None, "ref", object(), tasks.add])
def test_what_is_no_reference(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"get\(\) takes ObjectRefs"):
        scalepool.get(wrong)
    with pytest.raises(TypeError, match=r"get\(\) takes ObjectRefs"):
        scalepool.get([scalepool.put(1), {"x": wrong}])
    with pytest.raises(TypeError, match="list of ObjectRefs"):
        scalepool.wait([wrong])
    with pytest.raises(TypeError, match="takes an ObjectRef"):
        scalepool.cancel(wrong)
    with pytest.raises(TypeError, match=r"as_completed\(\) takes ObjectRefs|not iterable"):
        scalepool.as_completed([wrong])


def test_times() -> None:
    ref = tasks.sleeps.remote(0.3)
    for timeout in (0, -1, -1e9):
        with pytest.raises(TimeoutError, match="1 of 1"):
            scalepool.get(ref, timeout=timeout)
        assert scalepool.wait([ref], timeout=timeout) == ([], [ref])
        with pytest.raises(TimeoutError):
            list(scalepool.as_completed([ref], timeout=timeout))
    for wrong in ("1", [], True):
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            scalepool.get(ref, timeout=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            scalepool.wait([ref], timeout=wrong)  # type: ignore[arg-type]
    assert scalepool.get(ref, timeout=float("inf")) == 0.3
    assert scalepool.get(ref, timeout=-1) == 0.3, "what is there needs no time"
    with pytest.raises(TaskTimeoutError):
        scalepool.get(tasks.sleeps.options(timeout_s=0.05).remote(60))


def test_shutting_down_twice_and_references_of_before() -> None:
    ref = tasks.add.remote(1)
    stuck = tasks.sleeps.remote(60)
    scalepool.shutdown()
    scalepool.shutdown()
    assert not scalepool.is_initialized()
    assert scalepool.get(tasks.add.remote(5)) == 6
    for call in (
        lambda: scalepool.get(ref),
        lambda: scalepool.get([scalepool.put(1), stuck]),
        lambda: scalepool.wait([stuck]),
        lambda: list(scalepool.as_completed([stuck])),
        lambda: scalepool.cancel(stuck),
        lambda: tasks.add.remote(stuck),
    ):
        with pytest.raises(SessionError, match="another session, or its session was shut down"):
            call()


def test_who_waits_hears_of_the_shutdown() -> None:
    ref = tasks.sleeps.remote(60)
    caught: list[BaseException] = []

    def waits() -> None:
        try:
            scalepool.get(ref)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=waits)
    thread.start()
    wait_for(lambda: ref._slot().watchers)
    scalepool.shutdown()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(caught[0], SessionError)


def test_get_inside_of_a_finalizer() -> None:
    found: list[Any] = []

    class Dies:
        def __init__(self, ref: Any) -> None:
            self.ref = ref
            self.circle = self

        def __del__(self) -> None:
            found.append(scalepool.get(self.ref, timeout=30))

    for _ in range(3):
        Dies(tasks.sleeps.remote(0.05))
        gc.collect()
    assert found == [0.05] * 3


class Late:
    """Waits when it is collected, wherever that is."""

    def __init__(self, ref: Any, seen: list[Any]) -> None:
        self.ref = ref
        self.seen = seen
        self.me = self

    def __del__(self) -> None:
        try:
            self.seen.append(scalepool.get(self.ref, timeout=60))
        except (RuntimeError, ObjectLostError) as error:  # in the midst of other work; or its reference went first
            self.seen.append(error)


def test_finalizers_that_wait_wherever_the_collector_runs() -> None:
    seen: list[Any] = []
    for _ in range(5):
        for number in range(50):
            Late(tasks.add.remote(number), seen)
        garbage: list[Any] = []
        refs = []
        for number in range(1000):
            garbage.append([[] for _ in range(20)])
            refs.append(tasks.add.remote(number))
        assert scalepool.get(refs, timeout=60) == list(range(1, 1001))
    gc.collect()
    wait_for(lambda: len(seen) == 250)
    for each in seen:
        if not isinstance(each, int):
            assert isinstance(each, ObjectLostError) or "a finalizer" in str(each)


def test_get_of_a_list_in_itself_and_wait_for_nothing() -> None:
    circle: list[Any] = [tasks.add.remote(1)]
    circle.append(circle)
    with pytest.raises(ValueError, match="contains itself"):
        scalepool.get(circle)
    assert scalepool.wait([]) == ([], [])


def test_get_in_a_finalizer_at_the_end_of_the_program(tmp_path: Path) -> None:
    source = """
    import scalepool
    from live import remote_tasks as tasks

    class Dies:
        def __init__(self):
            self.ref = tasks.add.remote(1)

        def __del__(self):
            try:
                scalepool.get(self.ref, timeout=10)
            except Exception as error:
                print(type(error).__name__)
            else:
                print("a value")

    kept = Dies()
    scalepool.get(kept.ref)
    """
    # Or no import works any more. Whatever it is: an answer, and the interpreter ends.
    assert run(tmp_path, source) in ("SessionError\n", "a value\n", "ImportError\n")


def test_a_lost_value_says_so_and_does_not_hang() -> None:
    import pickle

    ref = scalepool.put([1])
    data = pickle.dumps(ref)
    del ref
    gc.collect()
    session = existing()
    assert isinstance(session, DriverSession)
    wait_for(lambda: len(session.hub._state.values) == 0)  # type: ignore[union-attr]
    stale = pickle.loads(data)
    for call in (
        lambda: scalepool.get(stale, timeout=30),
        lambda: scalepool.get(tasks.add.remote(stale), timeout=30),
    ):
        with pytest.raises(ObjectLostError):
            call()


def test_a_child_process_has_a_session_of_its_own(tmp_path: Path) -> None:
    source = """
    import os
    import warnings
    import scalepool
    from live import remote_tasks as tasks
    from scalepool.errors import SessionError

    warnings.simplefilter("ignore", DeprecationWarning)
    ref = tasks.add.remote(1)
    pid = os.fork()
    if pid == 0:
        try:
            scalepool.get(ref, timeout=20)
        except SessionError:
            os._exit(7)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), scalepool.get(ref))
    """
    assert run(tmp_path, source) == "7 2\n"


# ---- actors ----


def test_constructor_arguments_that_cannot_be_pickled_are_named_at_the_call() -> None:
    with pytest.raises(SerializationError, match=r"args\[1\].*lock"):
        Doubler.remote(1, threading.Lock())
    with pytest.raises(SerializationError, match=r"kwargs\['x'\].*generator"):
        Doubler.remote(x=(n for n in range(3)))


def test_constructor_arguments_that_do_not_fit_are_the_cause_of_its_death() -> None:
    actor = Doubler.remote("too many")
    with pytest.raises(scalepool.ActorDiedError, match="its constructor failed: TypeError") as caught:
        scalepool.get(actor.double.remote(1), timeout=60)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_class_with_slots_is_an_actor() -> None:
    actor = scalepool.remote(Slotted).remote(3)
    assert scalepool.get(actor.__call__.remote(4), timeout=60) == 12


def test_calls_of_an_actor_that_is_dead() -> None:
    actor = Doubler.remote()
    scalepool.kill(actor)
    for call in (
        lambda: scalepool.get(actor.double.remote(1), timeout=60),
        lambda: scalepool.get(tasks.add.remote(actor.double.remote(1)), timeout=60),
        lambda: scalepool.get(scalepool.remote(lambda a: scalepool.get(a.double.remote(1))).remote(actor), timeout=60),
    ):
        with pytest.raises(scalepool.ActorDiedError, match=r"ended by scalepool\.kill"):
            call()
    scalepool.kill(actor)


def test_an_exception_of_a_method_that_cannot_be_pickled() -> None:
    class Raises:
        def call(self) -> None:
            raise Holds("a lock in an actor")

    actor = scalepool.remote(Raises).remote()
    for _ in range(2):
        with pytest.raises(Exception, match="a lock in an actor"):
            scalepool.get(actor.call.remote(), timeout=60)


def test_an_actor_class_redefined_under_its_name() -> None:
    namespace: dict[str, Any] = {"scalepool": scalepool, "__name__": "__main__"}
    actors = []
    for number in range(2):
        exec(f"@scalepool.remote\nclass A:\n    def f(self):\n        return {number}", namespace)
        actors.append(namespace["A"].remote())
    assert scalepool.get([actor.f.remote() for actor in actors], timeout=60) == [0, 1]


def test_handles_of_a_session_that_was_shut_down() -> None:
    actor = Doubler.remote()
    assert scalepool.get(actor.double.remote(2)) == 4
    scalepool.shutdown()
    assert scalepool.get(tasks.add.remote(1)) == 2
    for call in (lambda: actor.double.remote(1), lambda: tasks.add.remote(actor), lambda: scalepool.kill(actor)):
        with pytest.raises(SessionError, match="another session, or its session was shut down"):
            call()


def test_an_actor_that_has_its_own_handle_inside_of_a_circle_ends_when_dropped() -> None:
    import os

    class Circular:
        def keep(self, me: Any) -> int:
            self.me = [me, self]
            return os.getpid()

    actor = scalepool.remote(Circular).remote()
    pid = scalepool.get(actor.keep.remote(actor), timeout=60)
    del actor
    gc.collect()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))  # noqa: PTH110
