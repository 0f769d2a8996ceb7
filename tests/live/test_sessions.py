"""Starting and ending a session, once and again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

import scalepool
from live import actor_classes, remote_tasks
from live.helpers import run
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def own_session() -> Iterator[None]:
    scalepool.shutdown()
    yield
    scalepool.shutdown()


def test_the_block_that_started_a_session_ends_it() -> None:
    with scalepool.init(num_cpus=2) as session:
        assert scalepool.is_initialized()
        assert session.is_owner
        assert "running" in repr(session)
        assert scalepool.get(remote_tasks.add.remote(1, 2), timeout=60) == 3
        with scalepool.init() as same:
            assert not same.is_owner
        assert scalepool.is_initialized(), "the inner block has not started it"
    assert not scalepool.is_initialized()
    assert "over" in repr(session)


def test_a_session_that_is_replaced_inside_of_its_block_is_left_alone() -> None:
    with scalepool.init(num_cpus=1):
        scalepool.shutdown()
        scalepool.init(num_cpus=2)
    assert scalepool.cluster_resources()["CPU"] == 2


def test_the_same_again_and_something_else() -> None:
    scalepool.init(num_cpus=2, resources={"license": 1}, memory="1GB", labels={"zone": "a"}, namespace="n")
    scalepool.init()
    scalepool.init(num_cpus=2, resources={"license": 1.0}, memory=1_000_000_000, namespace="n")
    with pytest.raises(SessionError, match=r"num_cpus=2 runs already, and init\(\) asks for num_cpus=4.*shutdown\(\)"):
        scalepool.init(num_cpus=4)
    with pytest.raises(SessionError, match=r"object_store_memory="):
        scalepool.init(object_store_memory="1GB")
    with pytest.raises(SessionError, match="resources="):
        scalepool.init(resources={"license": 2})
    scalepool.init(num_cpus=4, ignore_reinit_error=True)
    assert scalepool.cluster_resources()["CPU"] == 2


def test_what_makes_no_sense_starts_nothing() -> None:
    for wrong, kind in [
        ({"num_cpus": 0}, ValueError),
        ({"num_gpus": -1}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": 5}, TypeError),
        ({"memory": "much"}, ValueError),
        ({"labels": {"a": 1}}, TypeError),
        ({"num_cpus": 1.5}, TypeError),
    ]:
        with pytest.raises(kind, match=next(iter(wrong))):
            scalepool.init(**wrong)  # type: ignore[arg-type]
        assert not scalepool.is_initialized()


def test_what_is_no_address_is_refused() -> None:
    for wrong in ("head:6379", "auto", "ray://head:1"):
        with pytest.raises(ValueError, match=f"{wrong}.*no address of a cluster.*tcp://host:port"):
            scalepool.init(wrong)
    assert not scalepool.is_initialized()
    scalepool.init("local", num_cpus=1)


def test_what_it_has_and_what_it_is() -> None:
    with scalepool.init(num_cpus=2, num_gpus=0, memory="1GB", resources={"disk": 0.5}, labels={"zone": "a"}) as session:
        total = {"CPU": 2.0, "memory": 1e9, "disk": 0.5}
        assert scalepool.cluster_resources() == scalepool.available_resources() == total
        (node,) = scalepool.nodes()
        assert (node.node_id, node.host_name, node.alive) == (session.node_id, os.uname().nodename, True)
        assert (node.address, node.resources, node.labels) == ("local", total, {"zone": "a"})


def test_actors_are_looked_for_in_the_namespace_of_the_session() -> None:
    scalepool.init(num_cpus=1, namespace="mine")
    counter = actor_classes.Counter.options(name="c").remote(5)
    other = actor_classes.Counter.options(name="c", namespace="other").remote(7)
    for handle, namespace, there in [(counter, None, 5), (counter, "mine", 5), (other, "other", 7)]:
        found = scalepool.get_actor("c", namespace)
        assert found == handle
        assert scalepool.get(found.add.remote(by=0), timeout=60) == there


def test_ending_twice_and_threads_that_start_at_once() -> None:
    scalepool.shutdown()
    handles: list[scalepool.api.SessionHandle] = []
    threads = [threading.Thread(target=lambda: handles.append(scalepool.init(num_cpus=1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.node_id for handle in handles}) == 1
    scalepool.shutdown()
    scalepool.shutdown()
    assert not scalepool.is_initialized()


def test_resources_from_the_environment(tmp_path: Path) -> None:
    source = """
        import scalepool
        total = scalepool.cluster_resources()
        print(total["CPU"], total["license"], total["disk"], total["memory"], scalepool.nodes()[0].labels)
    """
    environ = {
        "SCALEPOOL_RESOURCES": "license=2, disk=0.5",
        "SCALEPOOL_NUM_CPUS": "3",
        "SCALEPOOL_MEMORY": "2GB",
        "SCALEPOOL_LABELS": '{"zone": "b"}',
    }
    assert run(tmp_path, source, environ={**os.environ, **environ}) == "3.0 2.0 0.5 2000000000.0 {'zone': 'b'}\n"


def test_a_session_in_a_task_is_the_tasks_own(tmp_path: Path) -> None:
    source = """
        import scalepool

        @scalepool.remote
        def inner():
            with scalepool.init(num_cpus=64) as session:
                assert not session.is_owner
            return scalepool.is_initialized()

        print(scalepool.get(inner.remote()))
    """
    assert run(tmp_path, source) == "True\n"


def test_the_user_is_told_what_a_task_waits_for(tmp_path: Path) -> None:
    source = """
        import time, scalepool
        from scalepool._core import leasing

        @scalepool.remote(resources={"license": 1})
        def holds(seconds):
            time.sleep(seconds)

        scalepool.init(num_cpus=2, resources={"license": 1})
        leasing.WARN_AFTER_S = 0.5
        scalepool.get([holds.remote(2), holds.options(num_cpus=0.5).remote(0)])
    """
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(source))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "scalepool: 1 task waited 0 s for resources: 1 license needed, 0 of 1 free\n"
