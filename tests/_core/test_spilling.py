"""Which objects go to disk, and when: pure decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _core.dialogue import Dialogue, dropped, sent
from scalepool._core.commands import Spill
from scalepool._core.events import Spilled
from scalepool._core.objects import NOBODY, ObjectDirectory
from scalepool._core.spilling import candidates
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalepool._core.commands import Command

LIMIT = 1000
SIZE = 100
READER = 5


def column(*objects: int, size_bytes: int = SIZE) -> list[int]:
    return [number for object_id in objects for number in (object_id, 77, 3, size_bytes)]


def ordered(commands: Iterable[Command]) -> list[int]:
    return [object_id for command in commands if isinstance(command, Spill) for object_id in command.objects]


def puts(talk: Dialogue, *objects: int, peer: int = DRIVER) -> list[int]:
    return ordered(talk.says(peer, m.Put(column(*objects))))


def directory(*objects: int) -> ObjectDirectory:
    found = ObjectDirectory()
    found.add(DRIVER, column(*objects), held=True)
    return found


def chosen(objects: ObjectDirectory, busy: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    return [object_id for object_id, _ in candidates(objects, busy)]


def test_what_no_task_carries_goes_first_in_the_order_of_its_last_use() -> None:
    objects = directory(1, 2, 3)
    objects.pin([1])
    objects.unpin([1])
    assert chosen(objects) == [2, 3, 1]


def test_of_what_waits_for_its_task_the_last_in_line_goes_first() -> None:
    objects = directory(1, 2, 3, 4)
    objects.pin([3])
    objects.pin([4])
    objects.pin([1])
    assert chosen(objects) == [2, 1, 4, 3]


def test_what_somebody_may_be_reading_stays() -> None:
    objects = directory(1, 2, 3)
    objects.hold(READER, [2])
    assert chosen(objects, {3}) == [1]
    objects.release(READER, [2])
    assert chosen(objects, {3}) == [1, 2]


def test_below_three_quarters_of_the_limit_nothing_goes() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    assert puts(talk, *range(1, 8)) == []
    assert puts(talk, 8) == [1, 2]  # down to five eighths


def test_without_a_limit_nothing_ever_goes() -> None:
    talk = Dialogue()
    assert puts(talk, *range(1, 1000)) == []


def test_what_is_on_the_way_counts_as_gone_and_is_not_ordered_again() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    assert puts(talk, *range(1, 9)) == [1, 2]
    assert puts(talk, 9) == []  # there is room for it when those two are gone
    assert puts(talk, 10) == [3, 4]
    talk.happens(Spilled((1,)))
    assert talk.hub.statistics().spilled == 1
    assert talk.hub.statistics().object_bytes == 9 * SIZE
    assert puts(talk, 11) == []
    talk.happens(Spilled((2, 3, 4)))
    assert talk.hub.statistics().object_bytes == 7 * SIZE
    assert puts(talk, 12) == [5, 6]


def test_after_a_failure_the_disk_has_its_time_and_then_others_are_tried_first() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    assert puts(talk, *range(1, 9)) == [1, 2]
    talk.happens(Spilled((1,), failed=(2,)))
    assert talk.hub.statistics().object_bytes == 7 * SIZE
    assert puts(talk, 9, 10) == []
    talk.now = 1.1
    assert puts(talk, 11) == [3, 4, 5, 6]
    talk.happens(Spilled((3, 4, 5, 6)))
    assert puts(talk, 12, 13) == [7, 8]
    talk.happens(Spilled((7, 8)))
    assert puts(talk, 14, 15) == [2, 9]  # the one that failed comes between those before and those after that


def test_what_the_host_reads_is_tried_again_soon() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    assert puts(talk, *range(1, 9)) == [1, 2]
    talk.happens(Spilled((), read=(1, 2)))
    assert puts(talk, 9) == []
    talk.now = 0.1
    assert puts(talk, 10) == [3, 4, 5, 6]


def test_without_more_objects_there_is_no_reason_to_look_again() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    group = talk.opens()
    puts(talk, *range(1, 9))
    assert ordered(talk.submits(group, 1) and talk.heard) == []


def test_arguments_of_assigned_tasks_stay_and_those_of_waiting_ones_go() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    group = talk.opens(1)
    talk.starts_workers(group)
    talk.submits(group, 1, references=[101], objects=column(101, size_bytes=400))
    talk.submits(group, 1, references=[102], objects=column(102, size_bytes=300))
    talk.submits(group, 1, references=[103], objects=column(103, size_bytes=300))
    held = {task for run in sent(talk.heard, m.Run) for task in run.references}
    assert 101 not in ordered(talk.heard)
    assert ordered(talk.heard) == [object_id for object_id in (103, 102) if object_id not in held]


def test_a_workers_object_is_then_in_the_hosts_care_alone() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    group = talk.opens(1)
    (worker,) = talk.starts_workers(group)
    mine = [worker << 40 | number for number in range(1, 9)]
    goes = puts(talk, *mine, peer=worker)
    assert goes == mine[:2]
    (discard,) = sent(talk.happens(Spilled(tuple(goes))), m.Discard)
    assert list(discard.objects) == goes
    heard = talk.says(worker, m.Release(mine))
    assert sorted(dropped(heard)) == mine
    assert sorted(object_id for free in sent(heard, m.Free) for object_id in free.objects) == mine[2:]
    assert talk.hub.statistics().object_bytes == 0


def test_what_is_freed_on_its_way_to_the_disk_is_forgotten() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    goes = puts(talk, *range(1, 9))
    talk.says(DRIVER, m.Release(goes))
    assert talk.happens(Spilled(tuple(goes[:1]), failed=tuple(goes[1:]))) == []
    assert talk.hub.statistics().spilled == 0
    assert talk.hub.statistics().object_bytes == 6 * SIZE


def test_results_that_somebody_reads_stay_and_count() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    group = talk.opens(1)
    (worker,) = talk.starts_workers(group)
    for number in range(9):
        (task,) = talk.submits(group)
        record = pack_result(task, 1, Status.VALUE, 1, 10, b"value")
        heard = talk.says(worker, m.Done([record], column(worker << 40 | 900 + number)))
        assert ordered(heard) == []
    assert talk.hub.statistics().object_bytes == 9 * SIZE


def test_all_are_told_to_give_back_what_is_idle_and_not_too_often() -> None:
    talk = Dialogue(store_limit_bytes=LIMIT)
    group = talk.opens(2)
    talk.starts_workers(group)
    puts(talk, *range(1, 7))
    assert len(sent(talk.heard, m.Trim)) == 3
    puts(talk, 7)
    assert sent(talk.heard, m.Trim) == []
    talk.now += 1.0
    puts(talk, 8)
    assert len(sent(talk.heard, m.Trim)) == 3


def test_the_directory_counts_what_is_in_memory() -> None:
    objects = directory(1, 2)
    assert objects.memory_bytes == 2 * SIZE
    assert objects.spilled(1) == DRIVER
    assert objects.spilled(1) == DRIVER
    assert objects.spilled(3) == NOBODY
    assert objects.memory_bytes == SIZE
    assert objects.release(DRIVER, [1, 2]) == [(DRIVER, 1), (DRIVER, 2)]
    assert objects.memory_bytes == 0
