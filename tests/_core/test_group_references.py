"""What a group's workers are given when they start: kept as long as one may start, and each is told where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _core.dialogue import Dialogue, closed, dropped, sent, started
from scalepool._core.commands import Spill, StartWorker
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalepool._core.commands import Command

BIG = 901
OTHER = 902
PLACE = (BIG, 77, 3, 1000)


def given(commands: Iterable[Command]) -> list[tuple[int, ...]]:
    return [command.objects for command in commands if isinstance(command, StartWorker)]


def puts(talk: Dialogue, *objects: int, peer: int = DRIVER) -> list[Command]:
    return talk.says(peer, m.Put([number for one in objects for number in (one, 77, 3, 1000)]))


@pytest.fixture
def talk() -> Dialogue:
    talk = Dialogue(store_limit_bytes=10_000)
    puts(talk, BIG)
    return talk


def test_each_worker_is_told_where_it_is_replacements_too(talk: Dialogue) -> None:
    group = talk.opens(2, private=True, references=[BIG])
    commands = talk.says(DRIVER, m.StartWorkers(group))
    assert given(commands) == [PLACE, PLACE]
    first, second = started(commands)
    talk.gets_ready(first)
    talk.gets_ready(second)
    assert given(talk.dies(first)) == [PLACE]


def test_it_stays_when_its_maker_lets_go_and_goes_with_the_last_worker(talk: Dialogue) -> None:
    group = talk.opens(1, private=True, references=[BIG])
    (worker,) = talk.starts_workers(group)
    assert dropped(talk.says(DRIVER, m.Release([BIG]))) == []
    assert dropped(talk.closes(group)) == []
    commands = talk.dies(worker, exitcode=0)
    assert closed(commands) == [group]
    assert dropped(commands) == [BIG]
    assert [list(free.objects) for free in sent(commands, m.Free, DRIVER)] == [[BIG]]


def test_two_groups_may_share_it(talk: Dialogue) -> None:
    groups = [talk.opens(1, private=True, references=[BIG]) for _ in range(2)]
    talk.says(DRIVER, m.Release([BIG]))
    assert dropped(talk.closes(groups[0])) == []
    assert dropped(talk.closes(groups[1])) == [BIG]


def test_what_is_gone_already_is_left_out(talk: Dialogue) -> None:
    group = talk.opens(1, private=True, references=[OTHER, BIG])
    assert given(talk.says(DRIVER, m.StartWorkers(group))) == [PLACE]


def test_values_are_kept_as_well(talk: Dialogue) -> None:
    value = talk.new_id()
    talk.says(DRIVER, m.Keep(value, b"payload", (), (), int(Status.VALUE)))
    group = talk.opens(1, private=True, references=[value])
    assert talk.says(DRIVER, m.Release([value])) == []
    talk.says(DRIVER, m.Want([value]))
    (reply,) = sent(talk.heard, m.Replies, DRIVER)
    assert list(reply.statuses) == [Status.VALUE]
    talk.says(DRIVER, m.Release([value]))
    talk.closes(group)
    talk.says(DRIVER, m.Want([value]))
    (reply,) = sent(talk.heard, m.Replies, DRIVER)
    assert list(reply.statuses) == [Status.LOST]


def test_it_goes_with_its_owner_too(talk: Dialogue) -> None:
    outer = talk.opens(1)
    (worker,) = talk.starts_workers(outer)
    talk.submits(outer)
    mine = worker << 40 | 7
    puts(talk, mine, peer=worker)
    talk.opens(1, peer=worker, parent=outer, private=True, references=[mine])
    assert dropped(talk.says(worker, m.Release([mine]))) == []
    assert dropped(talk.dies(worker)) == [mine]


@pytest.mark.parametrize("mode", [CloseMode.TERMINATE, CloseMode.KILL])
def test_workers_that_are_killed_may_read_it_to_their_end(talk: Dialogue, mode: CloseMode) -> None:
    group = talk.opens(1, private=True, references=[BIG])
    (worker,) = talk.starts_workers(group)
    talk.submits(group)
    talk.says(DRIVER, m.Release([BIG]))
    assert dropped(talk.closes(group, mode)) == []
    assert dropped(talk.dies(worker)) == [BIG]


def test_what_workers_may_have_mapped_is_not_worth_spilling(talk: Dialogue) -> None:
    group = talk.opens(1, private=True, references=[BIG])
    talk.starts_workers(group)
    more = list(range(1, 9))
    (spill,) = [command for command in puts(talk, *more) if isinstance(command, Spill)]
    assert spill.objects == (1, 2, 3)
    assert BIG not in spill.objects


def test_before_its_workers_start_it_may_be_spilled_after_what_nobody_needs() -> None:
    talk = Dialogue(store_limit_bytes=1400)
    puts(talk, BIG)
    talk.opens(1, private=True, references=[BIG])
    commands = talk.says(DRIVER, m.Put([OTHER, 77, 4, 100]))
    assert [command.objects for command in commands if isinstance(command, Spill)] == [(OTHER, BIG)]
