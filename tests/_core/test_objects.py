"""Who still needs an object."""

from __future__ import annotations

from scalepool._core.objects import ObjectDirectory

PLACE = (10, 100, 3, 4096)  # object 10, pid 100, fd 3
MAKER, READER = 1, 2


def directory(*, held: bool = False) -> ObjectDirectory:
    objects = ObjectDirectory()
    objects.add(MAKER, PLACE, held=held)
    return objects


def test_an_object_is_free_when_the_last_task_that_carries_it_has_ended() -> None:
    objects = directory()
    objects.pin([10])
    objects.pin([10])
    assert objects.unpin([10]) == []
    assert objects.unpin([10]) == [(MAKER, 10)]
    assert 10 not in objects


def test_an_object_is_free_when_the_last_holder_lets_go() -> None:
    objects = directory(held=True)
    objects.hold(READER, [10])
    assert objects.release(MAKER, [10]) == []
    assert objects.release(READER, [10]) == [(MAKER, 10)]
    assert len(objects) == 0


def test_holders_and_tasks_both_keep_it() -> None:
    objects = directory(held=True)
    objects.pin([10])
    assert objects.release(MAKER, [10]) == []
    assert objects.unpin([10]) == [(MAKER, 10)]


def test_a_peer_that_is_gone_holds_nothing() -> None:
    objects = directory(held=True)
    objects.add(READER, (11, 200, 4, 4096), held=True)
    objects.hold(READER, [10])
    assert objects.forget_peer(READER) == [(READER, 11)]
    assert objects.forget_peer(MAKER) == [(MAKER, 10)]


def test_what_is_known_keeps_its_counts_when_it_is_named_again() -> None:
    objects = directory()
    objects.pin([10])
    objects.add(READER, (10, 999, 9, 1), held=True)
    assert objects.columns([10]) == list(PLACE)
    assert objects.unpin([10]) == []
    assert objects.release(READER, [10]) == [(MAKER, 10)]


def test_objects_that_nobody_ever_needed_are_swept() -> None:
    objects = directory()
    objects.add(MAKER, (11, 100, 4, 64), held=True)
    assert objects.sweep([10, 11, 12]) == [(MAKER, 10)]


def test_unknown_and_lost_objects_are_left_out() -> None:
    objects = directory()
    objects.add(MAKER, (0, 0, 0, 0), held=False)
    assert len(objects) == 1
    objects.pin([99])
    objects.hold(READER, [99])
    assert objects.unpin([99]) == objects.release(READER, [99]) == []
    assert objects.columns([99, 10, 10]) == list(PLACE)
    assert [object_id for object_id, _ in objects.items()] == [10]
