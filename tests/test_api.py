"""The public layer: argument checks and the small functions; what runs in workers is tested in ``live``."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from scalepool import api
from scalepool._runtime import session
from scalepool.config import Settings
from scalepool.errors import InitializerError, RemoteTraceback, SerializationError, WorkerDiedError

pytestmark = pytest.mark.live


@pytest.fixture
def group() -> api.WorkerGroup:
    return api.WorkerGroup(2, name="Mine")


def test_a_session_starts_once_and_for_all_threads() -> None:
    api.init()
    first = session.existing()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(session.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert api.is_initialized()
    assert set(map(id, found)) == {id(first)}
    assert not api.in_worker()
    assert api.current_task() is None


def test_a_group_says_what_it_is(group: api.WorkerGroup) -> None:
    assert group.max_workers == 2
    assert repr(group) == "<WorkerGroup Mine max_workers=2 unfinished=0>"
    assert group.statistics() == api.GroupStatistics(2, 0, 0, 0)
    group.close()
    group.close()
    assert group.join(60)
    assert group.statistics().unfinished == 0
    with pytest.raises(RuntimeError, match="closed"):
        group.submit(len, ("x",))


def test_what_cannot_travel_fails_when_exported_but_not_when_submitted(group: api.WorkerGroup) -> None:
    lock = threading.Lock()

    def locked() -> None:
        lock.acquire()

    with pytest.raises(SerializationError):
        group.export(locked)
    future = group.submit(locked)
    assert isinstance(future.exception(0), SerializationError)
    assert isinstance(group.submit(5).exception(0), TypeError)  # type: ignore[arg-type]


def test_an_initializer_that_cannot_travel_fails_the_constructor() -> None:
    with pytest.raises(SerializationError):
        api.WorkerGroup(1, initializer=len, initargs=(threading.Lock(),))


def test_a_group_and_its_futures_do_not_pickle(group: api.WorkerGroup) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(group.submit(len, ("x",)))


def test_error_types_default_to_ours() -> None:
    types = api.ErrorTypes()

    assert (types.worker_died, types.initializer_failed) == (WorkerDiedError, InitializerError)
    assert types.remote_traceback() is RemoteTraceback
    assert copy.replace(types) == types if hasattr(copy, "replace") else True


def test_errors_of_a_group_have_the_classes_it_wants() -> None:
    class Died(WorkerDiedError):
        pass

    class Text(Exception):
        def __init__(self, tb: str) -> None:
            self.tb = tb

    group = api.WorkerGroup(1, errors=api.ErrorTypes(worker_died=Died, remote_traceback=lambda: Text))
    import os

    assert isinstance(group.submit(os._exit, (3,)).exception(60), Died)
    assert isinstance(group.submit(int, ("x",)).exception(60).__cause__, Text)
    group.close()


def test_an_exported_function_is_used_many_times(group: api.WorkerGroup) -> None:
    function = group.export(len)

    assert [group.submit(function, ("x" * n,)).result(60) for n in range(5)] == list(range(5))
    assert group.submit(sorted, ([3, 1],), {"reverse": True}).result(60) == [3, 1]


def test_buffers(group: api.WorkerGroup) -> None:
    buffer = api.put_buffer(bytearray(b"abc"))

    assert buffer.size_bytes == 3
    assert bytes(memoryview(buffer.open("r"))[:3]) == b"abc"
    view = memoryview(buffer.open("c"))
    view[0] = ord("x")
    assert bytes(memoryview(buffer.open("r"))[:3]) == b"abc"
    with pytest.raises(ValueError, match="mode"):
        buffer.open("w")  # type: ignore[arg-type]
    with pytest.raises((TypeError, BufferError, ValueError)):
        api.put_buffer("text")


def test_settings_of_the_session_are_those_of_the_environment() -> None:
    assert isinstance(session.current().settings, Settings)
    assert session.current().cpus == api.cpu_count()


def test_wait_of_nothing() -> None:
    assert api.wait([]) == ([], [])
