from __future__ import annotations

import pytest

from scalepool.bench.profile.stages import STAGES, StageError, locate

FUNCTIONS = sorted({function for stage in STAGES for function in stage.functions})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_of_the_table_is_there(function: str) -> None:
    place = locate(function)
    assert vars(place.owner)[place.name] is place.function


def test_stages_are_unique_on_their_side_and_no_function_is_in_two() -> None:
    for side in ("driver", "worker"):
        stages = [stage for stage in STAGES if stage.side == side]
        functions = [function for stage in stages for function in stage.functions]
        assert len({stage.name for stage in stages}) == len(stages)
        assert len(set(functions)) == len(functions)


@pytest.mark.parametrize("name", ["_runtime.nowhere:f", "_runtime.client:Client.nothing", "_runtime.client:None_.x"])
def test_a_function_that_has_moved_is_named(name: str) -> None:
    with pytest.raises(StageError, match=r"is not there: correct bench/profile/stages\.py"):
        locate(name)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(StageError, match="no plain function"):
        locate("_wire.codec:MAX_MESSAGE_BYTES")
