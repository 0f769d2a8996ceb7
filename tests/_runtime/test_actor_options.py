"""What is known of actor classes and their methods before anything runs."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from scalepool._runtime.actors import ActorClass, ActorOptions, full_name
from scalepool._runtime.handles import ActorMeta, MethodOptions, meta_of
from scalepool._runtime.instance import Method, Plan, actor_id
from scalepool._runtime.options import check_count

if TYPE_CHECKING:
    from collections.abc import Iterator


class Plain:
    limit = 5

    def one(self) -> int:
        return 1

    def many(self) -> Iterator[int]:
        yield 1

    @scalepool.method(num_returns=2, concurrency_group="io")
    def two(self) -> tuple[int, int]:
        return 1, 2

    @property
    def size(self) -> int:
        return 0

    @staticmethod
    def still() -> int:
        return 1


class Async(Plain):
    async def later(self) -> None:
        await asyncio.sleep(0)


def plan_of(cls: type[Any], **options: Any) -> Plan:
    return ActorClass(cls, ActorOptions().updated({"concurrency_groups": {"io": 3}, **options}))._plan()


def test_how_many_calls_run_at_once() -> None:
    assert plan_of(Plain) == Plan(False, {"": 1, "io": 3})
    assert plan_of(Async) == Plan(True, {"": 1000, "io": 3})
    assert plan_of(Async, max_concurrency=7).limits[""] == 7
    assert not plan_of(Plain).is_plain
    assert Plan(False, {"": 1}).is_plain
    assert not Plan(True, {"": 1}).is_plain
    assert Plan(False, {"": 4}).concurrency == 4
    assert plan_of(Plain).concurrency > 1 << 30  # only the process knows which of them may run


def test_methods_and_what_is_none() -> None:
    actor = ActorClass(Plain, ActorOptions().updated({"concurrency_groups": {"io": 3}}))
    assert set(actor._methods) == {"one", "many", "two", "still"}
    assert actor._methods["two"] == MethodOptions(num_returns=2, concurrency_group="io")
    assert actor._methods["many"].num_returns == "streaming"
    assert actor._others == {"size": "a property", "limit": "an attribute of the class"}
    assert isinstance(Plain(), actor)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two is of concurrency group 'io'"):
        ActorClass(Plain)


def test_a_meta_travels_and_is_one_object_in_a_process() -> None:
    meta = ActorMeta("C", "name", {"m": MethodOptions(num_returns=3)}, {"x": "a property"}, ("io",), 2)
    packed = meta.packed()
    assert meta_of(packed) == meta
    assert meta_of(packed) is meta_of(bytes(packed))


def test_terms_of_methods() -> None:
    assert MethodOptions().terms(0).max_retries == 0
    assert MethodOptions().terms(2).max_retries == 2
    assert MethodOptions(max_task_retries=0).terms(2).max_retries == 0
    assert MethodOptions().terms(-1).max_retries > 1 << 20
    assert MethodOptions(timeout_s=0.5).terms(0).time_limit_s == 0.5


@pytest.mark.parametrize("wrong", [{"num_returns": -1}, {"max_task_retries": -2}, {"timeout_s": -1}])
def test_options_of_methods_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        MethodOptions().updated(wrong)


def test_counts() -> None:
    check_count("n", None, none=True)
    check_count("n", -1)
    for value, options in [(None, {}), (-1, {"infinite": False}), (True, {}), (1.0, {}), (0, {"least": 1})]:
        with pytest.raises(ValueError, match="n must be an int"):
            check_count("n", value, **options)  # type: ignore[arg-type]


def test_names_in_their_namespaces() -> None:
    assert full_name("a", None) == b"a"
    assert full_name("a", "n") != full_name("n/a", None)
    assert ActorOptions().full_name == b""


def test_a_method_travels_by_its_name() -> None:
    method = Method("C", "m", "io", "none")
    again = pickle.loads(pickle.dumps(method))
    assert (again.cls, again.name, again.group, again.way, again.__qualname__) == ("C", "m", "io", "none", "C.m")
    assert actor_id() == 0
