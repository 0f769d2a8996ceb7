"""Actors with real workers."""

from __future__ import annotations

import copy
import gc
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

import scalepool
from live import actor_classes as classes
from live.test_remote import eventually, hub_values
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import (
    ActorDiedError,
    ActorUnavailableError,
    SerializationError,
    SessionError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerDiedError,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def get(refs: Any) -> Any:
    return scalepool.get(refs, timeout=60)


def groups() -> int:
    session = existing()
    assert isinstance(session, DriverSession)
    return len(session.hub._state.groups)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# ---- calls ----


def test_calls_run_in_order_and_state_is_kept() -> None:
    counter = classes.Counter.remote(10)
    assert get([counter.add.remote() for _ in range(200)]) == list(range(11, 211))
    assert get(counter.add.remote(by=5)) == 215
    assert "Counter" in repr(counter)
    assert "Counter.add: ready" in repr(ref := counter.add.remote()) or get(ref) == 216


def test_calls_run_in_order_although_some_of_them_wait() -> None:
    counter = classes.Counter.remote()
    refs = []
    for number in range(60):  # some reach the actor before it waits, some while it does, some when it goes on
        refs.append(counter.add_after.remote(0.004, 1) if number % 3 == 0 else counter.add.remote())
        if number % 5 == 0:
            scalepool.wait(refs, num_returns=len(refs) // 2 + 1, timeout=60)
    assert get(refs) == list(range(1, 61))


def test_an_actor_whose_only_handle_comes_out_of_its_own_call_lives() -> None:
    actor = classes.Reflecting.remote()
    pid = get(actor.keep.remote(actor))
    ref = actor.me.remote()
    del actor  # long before the call ends
    me = get(ref)
    assert get(me.pid.remote()) == pid
    del me, ref
    assert eventually(lambda: is_gone(pid))


def test_two_actors_are_two_processes_and_two_states() -> None:
    one, other = classes.Counter.remote(), classes.Counter.remote(100)
    get([one.add.remote(), other.add.remote()])
    assert get([one.value.remote(), other.value.remote()]) == [1, 101]
    assert len({os.getpid(), *get([one.pid.remote(), other.pid.remote()])}) == 3


def test_several_values_and_options_of_methods() -> None:
    counter = classes.Counter.remote(3)
    assert get(counter.two.remote()) == [3, "two"]
    assert get(counter.two.options(num_returns=1).remote()) == (3, "two")
    assert "mine" in repr(counter.add.options(name="mine").remote())


def test_references_as_arguments_are_awaited_in_order(tmp_path: Path) -> None:
    counter = classes.Counter.remote()
    slow = classes.Counter.remote().wait_for.remote(tmp_path / "go")
    held_up = counter.add.remote(slow)  # 1, once it is there
    later = counter.add.remote(10)
    other = classes.bump.remote(counter, 1)  # another caller: not held up
    assert get(other) == 1
    assert scalepool.wait([held_up, later], timeout=0.05)[0] == []
    (tmp_path / "go").touch()
    assert get([held_up, later]) == [2, 12]


def test_a_call_whose_argument_fails_lets_the_next_pass() -> None:
    counter = classes.Counter.remote()
    bad = counter.fail.remote("x")
    second = counter.add.remote(bad)
    third = counter.add.remote()
    with pytest.raises(KeyError):
        get(second)
    assert get(third) == 1


def test_errors_of_methods_are_raised_as_they_are() -> None:
    counter = classes.Counter.remote()
    with pytest.raises(KeyError, match="why") as caught:
        get(counter.fail.remote("why"))
    assert "in fail" in str(caught.value.__cause__)
    assert get(counter.add.remote()) == 1


def test_large_arrays_as_arguments_and_results() -> None:
    keeper = scalepool.remote(_Holder).remote(np.arange(300_000))
    assert get(keeper.total.remote(np.ones(300_000))) == np.arange(300_000).sum() + 300_000
    assert get(keeper.get.remote()).shape == (300_000,)


class _Holder:
    def __init__(self, data: Any) -> None:
        self.data = data

    def total(self, more: Any) -> float:
        return float(self.data.sum() + more.sum())

    def get(self) -> Any:
        return self.data


def test_references_to_the_constructor() -> None:
    ref = classes.plus_one.remote(41)
    assert get(classes.Counter.remote(ref).add.remote()) == 43
    assert get(classes.Counter.remote(start=classes.plus_one.remote(ref)).value.remote()) == 43


# ---- classes of all kinds ----


def test_inheritance_slots_dataclasses_and_the_like() -> None:
    derived = classes.Derived.remote()
    assert get([derived.hello.remote(), derived.get.remote()]) == ["hello from Derived", 7]
    assert get(scalepool.remote(classes.Grandchild).remote().twice.remote()) == 14
    assert get(classes.Point.remote(1, y=2).total.remote()) == 3
    counter = classes.Counter.remote()
    assert get([counter.static.remote(1), counter.named.remote()]) == [2, "Counter"]
    assert {"add", "static", "two"} <= set(dir(counter))


def test_a_class_of_this_function() -> None:
    secret = [5]

    class Local:
        def __call__(self, x: int) -> int:
            return x + secret[0]

    assert get(scalepool.remote(Local).remote().__call__.remote(1)) == 6


def test_what_is_called_the_wrong_way() -> None:
    counter = classes.Counter.remote()
    with pytest.raises(TypeError, match=r"Counter\.remote\(\.\.\.\)"):
        classes.Counter(1)
    assert classes.Counter.actor_class(1).value() == 1
    with pytest.raises(TypeError, match=r"add\.remote\(\.\.\.\)"):
        counter.add(1)
    with pytest.raises(TypeError, match="not callable"):
        counter()
    with pytest.raises(AttributeError, match="a property"):
        counter.double  # noqa: B018
    with pytest.raises(AttributeError, match="an attribute"):
        counter.step  # noqa: B018
    with pytest.raises(AttributeError, match="no method 'nonsense'"):
        counter.nonsense.remote()
    with pytest.raises(AttributeError, match="cannot set"):
        counter.n = 5  # type: ignore[method-assign,assignment]
    with pytest.raises(SerializationError):
        classes.Counter.remote(threading.Lock())
    with pytest.raises(TypeError, match=r"ActorHandle, not 5"):
        scalepool.kill(5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no actor"):
        scalepool.exit_actor()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_concurrency": 0}, "max_concurrency"), ({"max_restarts": -2}, "max_restarts"),
        ({"max_task_retries": True}, "max_task_retries"), ({"name": ""}, "name"), ({"lifetime": "x"}, "lifetime"),
        ({"concurrency_groups": {"io": 0}}, "io"), ({"get_if_exists": True}, "needs a name"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        classes.Counter.options(**options)
    with pytest.raises(ValueError, match=why):
        scalepool.remote(**options)(classes.Base)


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match="unknown option 'colour'"):
        classes.Counter.options(colour="red")
    with pytest.raises(TypeError, match="unknown option 'colour'"):
        scalepool.method(colour="red")
    with pytest.raises(TypeError, match="unknown option 'num_returns' of an actor"):
        scalepool.remote(num_returns=2)(classes.Base)
    with pytest.raises(ValueError, match="no concurrency group 'io'"):
        classes.Counter.remote().add.options(concurrency_group="io")


# ---- handles ----


def test_handles_travel() -> None:
    counter = classes.Counter.remote()
    assert get(classes.bump.remote(counter, 3)) == 3
    keeper = classes.Keeper.remote(counter)
    assert get(keeper.call.remote(4)) == 7
    get(keeper.keep.remote([counter]))
    assert get(keeper.call.remote(1)) == 8
    made = get(keeper.make.remote(50))
    assert get(made.add.remote()) == 51
    assert get(scalepool.put([made]))[0] == made
    assert copy.deepcopy(made) == made
    assert len({made, copy.copy(made), counter}) == 2


def test_an_actor_runs_tasks_and_waits_for_them() -> None:
    assert get(classes.Keeper.remote().tasks.remote(10)) == 55


def test_an_actor_ends_with_its_last_handle_after_what_it_was_called_for() -> None:
    before = hub_values()
    counter = classes.Counter.remote()
    pid = get(counter.pid.remote())
    last = counter.slow.remote(0.2)
    del counter
    gc.collect()
    assert get(last) == 1
    assert eventually(lambda: is_gone(pid), 20)
    del last
    assert eventually(lambda: hub_values() <= before)


def test_a_handle_elsewhere_keeps_it_alive() -> None:
    counter = classes.Counter.remote()
    pid = get(counter.pid.remote())
    keeper = classes.Keeper.remote(counter)
    assert get(keeper.call.remote(1)) == 1
    del counter
    gc.collect()
    for n in range(2, 10):
        assert get(keeper.call.remote(1)) == n
    get(keeper.drop.remote())
    assert eventually(lambda: is_gone(pid), 20)


def test_an_actor_made_by_a_task_that_is_over() -> None:
    @scalepool.remote
    def make() -> Any:
        handle = classes.Counter.remote(7)
        handle.add.remote()
        return handle

    assert get(get(make.remote()).value.remote()) == 8


# ---- death ----


def test_a_constructor_that_raises() -> None:
    broken = classes.Broken.remote("no way")
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="ValueError: no way") as caught:
            get(broken.method.remote())
        assert isinstance(caught.value.__cause__, ValueError)
        assert "in __init__" in str(caught.value.__cause__.__cause__)
        assert caught.value.actor_class == "Broken"


def test_a_constructor_whose_argument_fails() -> None:
    counter = classes.Counter.remote()
    other = classes.Counter.remote(counter.fail.remote("arg"))
    with pytest.raises(ActorDiedError) as caught:
        get(other.add.remote())
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_process_that_dies_takes_the_actor_with_it() -> None:
    counter = classes.Counter.remote()
    pid = get(counter.pid.remote())
    refs = [counter.add.remote(), counter.die.remote(), counter.add.remote()]
    assert get(refs[0]) == 1
    with pytest.raises(ActorDiedError, match="SIGKILL") as caught:
        get(refs[1])
    error = caught.value
    assert (error.pid, error.exitcode, error.signal_name, error.task) == (pid, -9, "SIGKILL", "Counter.die")
    assert isinstance(error, WorkerDiedError)
    with pytest.raises(ActorDiedError, match=r"Counter\.add"):
        get(refs[2])
    with pytest.raises(ActorDiedError):
        get(counter.add.remote())


def test_a_process_that_is_killed_while_it_idles() -> None:
    counter = classes.Counter.remote()
    os.kill(get(counter.pid.remote()), signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        while True:
            get(counter.add.remote())


def test_kill() -> None:
    counter = classes.Counter.remote()
    pid = get(counter.pid.remote())
    running, queued = counter.slow.remote(60), counter.add.remote()
    scalepool.kill(counter)
    for ref in (running, queued, counter.add.remote()):
        with pytest.raises(ActorDiedError, match=r"scalepool\.kill"):
            get(ref)
    assert eventually(lambda: is_gone(pid))
    scalepool.kill(counter)


def test_exit_actor() -> None:
    counter = classes.Counter.remote()
    first, leaving, queued = counter.add.remote(), counter.leave.remote(), counter.add.remote()
    assert get(first) == 1
    for ref in (leaving, queued, counter.add.remote()):
        with pytest.raises(ActorDiedError, match="exit_actor"):
            get(ref)


def test_an_actor_that_begins_anew(tmp_path: Path) -> None:
    actor = classes.Restarting.remote(tmp_path, np.ones(100_000))
    assert get(actor.lives.remote()) == 1
    dying, queued = actor.die.options(max_task_retries=0).remote(), actor.lives.remote()
    with pytest.raises(ActorUnavailableError, match="begins anew"):
        get(dying)
    assert get(queued) == 2
    assert get(actor.add.remote(1)).sum() == 200_000
    with pytest.raises(ActorDiedError) as caught:  # tried twice: it may begin anew only once more
        get(actor.die.remote())
    assert caught.value.restarts == 2
    with pytest.raises(ActorDiedError):
        get(actor.lives.remote())


def test_a_call_that_is_tried_again(tmp_path: Path) -> None:
    actor = classes.Restarting.remote(tmp_path, 0)
    refs = [actor.die_once.remote(), actor.lives.remote()]
    assert get(refs) == [2, 2]


def test_kill_with_restart(tmp_path: Path) -> None:
    actor = classes.Restarting.remote(tmp_path, 0)
    get(actor.lives.remote())
    scalepool.kill(actor, no_restart=False)
    assert eventually(lambda: get(actor.lives.remote()) == 2)


def test_a_time_limit_ends_the_actor() -> None:
    counter = classes.Counter.remote()
    with pytest.raises(TaskTimeoutError):
        get(counter.slow.options(timeout_s=0.1).remote(60))
    with pytest.raises(ActorDiedError):
        get(counter.add.remote())


def test_cancel(tmp_path: Path) -> None:
    counter = classes.Counter.remote()
    running, queued = counter.wait_for.remote(tmp_path / "go"), counter.add.remote()
    assert scalepool.cancel(queued)
    assert eventually((tmp_path / "go.started").exists)
    assert not scalepool.cancel(running, force=True)  # as it would be the end of the actor
    (tmp_path / "go").touch()
    assert get(running) == 1
    with pytest.raises(TaskCancelledError):
        get(queued)


def test_handles_of_a_session_that_has_ended() -> None:
    counter = classes.Counter.remote()
    pid = get(counter.pid.remote())
    scalepool.shutdown()
    assert is_gone(pid)
    with pytest.raises(SessionError):
        counter.add.remote()


# ---- their own handles ----


@scalepool.remote
class Introducing:
    def __init__(self, friend: Any = None) -> None:
        self.calls = 0
        self.began = friend is None or scalepool.get(friend.keep.remote(self.own()))

    def own(self) -> Any:
        return scalepool.get_runtime_context().current_actor

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def hand_over(self, friend: Any) -> int:
        return int(scalepool.get(friend.keep.remote(self.own())))


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 3}, {"name": "introducing"}])
def test_an_actor_hands_on_a_handle_of_itself(options: dict[str, Any]) -> None:
    friend = classes.Reflecting.remote()
    actor = Introducing.options(**options).remote(friend)
    own = get(actor.own.remote())
    assert own == actor
    assert repr(own) == repr(actor)
    assert [get(one.count.remote()) for one in (actor, own, get(friend.me.remote()))] == [1, 2, 3]
    get(actor.hand_over.remote(friend))
    del actor, own
    gc.collect()
    assert get(get(friend.me.remote()).count.remote()) == 4
    pid = get(friend.pid.remote())
    del friend
    gc.collect()
    assert eventually(lambda: is_gone(pid) and (not options.get("name") or not _exists("introducing")))


def test_its_own_handle_does_not_keep_it_alive() -> None:
    @scalepool.remote
    class Selfish:
        def __init__(self) -> None:
            self.own = scalepool.get_runtime_context().current_actor

        def pid(self) -> int:
            return os.getpid()

    actor = Selfish.remote()
    pid = get(actor.pid.remote())
    del actor
    gc.collect()
    assert eventually(lambda: is_gone(pid))
    with pytest.raises(RuntimeError, match="this is no actor"):
        _ = scalepool.get_runtime_context().current_actor


# ---- names ----


def test_names() -> None:
    counter = classes.Counter.options(name="one").remote(5)
    assert get(scalepool.get_actor("one").add.remote()) == 6
    with pytest.raises(ValueError, match="'one' already"):
        classes.Counter.options(name="one").remote()
    same = classes.Counter.options(name="one", get_if_exists=True).remote()
    assert same == counter
    other = classes.Counter.options(name="one", namespace="n").remote(50)
    assert get(scalepool.get_actor("one", "n").value.remote()) == 50
    assert get([same.value.remote(), other.value.remote()]) == [6, 50]

    @scalepool.remote
    def find() -> int:
        return int(scalepool.get(scalepool.get_actor("one").add.remote()))

    assert get(find.remote()) == 7
    del counter, same
    gc.collect()
    assert eventually(lambda: not _exists("one"))
    with pytest.raises(ValueError, match="no actor named 'one'"):
        scalepool.get_actor("one")


def test_an_actor_that_was_found_by_its_name_does_not_end_under_its_new_handle() -> None:
    handles = [classes.Counter.options(name="again", get_if_exists=True).remote() for _ in range(4)]
    failed: list[BaseException] = []
    calls = [0]

    def find_and_drop(handle: Any) -> None:
        try:
            for _ in range(100):
                assert get(handle.add.remote()) > 0
                calls[0] += 1
                handle = None
                handle = classes.Counter.options(name="again", get_if_exists=True).remote()
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=find_and_drop, args=(handles.pop(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failed
    assert calls[0] == 400
    assert eventually(lambda: not _exists("again"))


def test_the_last_handle_that_goes_before_the_question_ends_the_actor() -> None:
    for _ in range(5):
        own = classes.Counter.options(name="gone").remote()
        get(own.add.remote())
        del own
        with pytest.raises(ValueError, match="no actor named 'gone'"):
            scalepool.get_actor("gone")


def _exists(name: str) -> bool:
    try:
        scalepool.get_actor(name)
    except ValueError:
        return False
    return True


def test_detached_actors_live_until_they_are_killed() -> None:
    pid = get(classes.Counter.options(name="d", lifetime="detached").remote().pid.remote())
    gc.collect()
    for n in range(1, 6):
        assert get(scalepool.get_actor("d").add.remote()) == n
    scalepool.kill(scalepool.get_actor("d"))
    assert eventually(lambda: is_gone(pid) and not _exists("d"))


# ---- several calls at once ----


def test_threads() -> None:
    actor = classes.Threads.remote()
    assert len(set(get([actor.meet.remote() for _ in range(3)]))) == 3
    get([actor.meet.remote() for _ in range(30)])
    with pytest.raises(KeyError):
        get(actor.fail.remote())


def test_coroutines_run_side_by_side() -> None:
    actor = classes.Async.remote()
    waiting = [actor.wait.remote() for _ in range(200)]
    assert get(actor.plain.remote())
    get(actor.open.remote())
    assert max(get(waiting)) == 200
    assert get(actor.add.remote([scalepool.put(2)], 3)) == 5
    with pytest.raises(KeyError) as caught:
        get(actor.fail.remote())
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(ActorDiedError, match="exit_actor"):
        get(actor.leave.remote())


def test_a_limit_on_coroutines() -> None:
    actor = classes.Async.options(max_concurrency=4).remote()
    waiting = [actor.wait.remote() for _ in range(3)]
    get(actor.open.remote())
    assert max(get(waiting)) == 3


def test_concurrency_groups() -> None:
    actor = classes.Grouped.remote()
    waiting = [actor.wait.remote() for _ in range(5)]
    get(actor.open.remote())  # is not of that group, so it is not held up
    assert all(get(waiting))
    assert get(actor.where.options(concurrency_group="io").remote())


# ---- what methods return ----


@pytest.mark.parametrize("cls", [classes.Yielder, classes.AsyncYielder])
def test_methods_that_yield(cls: Any) -> None:
    actor = cls.remote()
    assert [get(ref) for ref in actor.numbers.remote(50)] == list(range(50))
    assert actor.quiet.remote(-1) is None
    assert get(actor.seen.remote()) == [*range(50), -1]
    assert [get(ref) for ref in get(actor.several.remote(3))] == [0, 1, 2]
    assert [get(ref) for ref in get(actor.numbers.options(num_returns="dynamic").remote(2))] == [0, 1]
    first, second = actor.several.options(num_returns=2).remote(2)
    assert get([first, second]) == [0, 1]
    bad = actor.bad.remote()
    assert get(next(bad)) == 1
    with pytest.raises(KeyError):
        get(next(bad))


@pytest.mark.parametrize("cls", [classes.Yielder, classes.AsyncYielder])
def test_a_stream_of_a_method_waits_for_its_reader(cls: Any) -> None:
    actor = cls.options(max_concurrency=2).remote()
    stream = actor.numbers.options(generator_backpressure=3).remote(10_000)
    assert get(next(stream)) == 0
    assert eventually(lambda: len(get(actor.seen.remote())) >= 3)
    assert len(get(actor.seen.remote())) < 100
    del stream
    gc.collect()
    assert get(actor.several.remote(1)) is not None


def test_plain_generators_of_an_async_actor() -> None:
    assert [get(ref) for ref in classes.AsyncYielder.remote().plain.remote(5)] == list(range(5))


def test_cancel_a_coroutine_that_runs(tmp_path: Path) -> None:
    actor = classes.AsyncYielder.remote()
    sleeping = actor.sleep.remote(tmp_path / "here")
    assert eventually((tmp_path / "here").exists)
    assert scalepool.cancel(sleeping) or eventually(lambda: scalepool.cancel(sleeping))
    with pytest.raises(TaskCancelledError):
        get(sleeping)
    assert not (tmp_path / "here").exists()
    assert get(actor.seen.remote()) == []


def test_an_actor_that_would_wait_for_itself() -> None:
    actor = classes.Selfish.remote()
    actor.set.remote([actor])
    with pytest.raises(RuntimeError, match=r"Selfish\.one cannot run before"):
        get(actor.wait.remote())
    assert get(get(actor.later.remote())) == 1


def test_the_object_is_dropped_before_its_process_ends(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    actor = classes.Selfish.remote(gone)
    get(actor.one.remote())
    assert not gone.exists()
    del actor
    gc.collect()
    assert eventually(gone.exists)
