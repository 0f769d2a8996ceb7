"""The hub's interface, and what it does with anything that anybody says."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _core.dialogue import Dialogue, started
from scalepool._core.commands import Drop, Inspect, KillWorker, Note, Revoke, Send, StartWorker
from scalepool._core.events import Event, LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._core.hub import Hub
from scalepool._core.stats import HubStatistics
from scalepool._wire import messages as m
from scalepool._wire.codec import decode, encode
from scalepool._wire.messages import DRIVER
from scalepool._wire.records import pack_result
from scalepool.errors import ProtocolError


@pytest.mark.parametrize("message", [m.Welcome(1), m.Exit(), m.Recall(1), m.GroupClosed(1), m.Free([1])])
def test_what_only_a_hub_says_is_refused(message: m.Message) -> None:
    with pytest.raises(ProtocolError, match="only a hub sends"):
        Hub().handle(Received(DRIVER, message), 0.0)


@pytest.mark.parametrize("peer", [5, -1])
def test_a_peer_that_never_was_is_refused(peer: int) -> None:
    with pytest.raises(ProtocolError, match="not known"):
        Hub().handle(Received(peer, m.Put([1, 2, 3, 4])), 0.0)


def test_late_words_of_a_dead_worker_leave_no_trace() -> None:
    talk = Dialogue()
    (worker,) = talk.starts_workers(talk.opens(1))
    talk.dies(worker)
    before = talk.hub.statistics()
    assert talk.says(worker, m.OpenGroup(worker << 40 | 1, 0, 1, 1, 0, 0, b"")) == []
    assert talk.says(worker, m.Put([1, 2, 3, 4])) == []
    assert talk.says(worker, m.Done([pack_result(1, 1, 0, 0, 0, b"")])) == []
    assert talk.hub.statistics() == before


def test_it_says_whether_it_is_hungry_and_busy() -> None:
    talk = Dialogue()
    assert talk.hub.hungry
    assert not talk.hub.busy
    group = talk.opens(2)
    talk.submits(group)
    assert not talk.hub.hungry
    assert talk.hub.busy
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert not talk.hub.hungry
    (second,) = started(talk.says(DRIVER, m.StartWorkers(group)))
    talk.gets_ready(second)
    assert talk.hub.hungry


def test_it_counts() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    talk.submits(group, 3, references=[1], objects=[1, 2, 3, 4])
    first, _ = started(talk.heard)
    talk.gets_ready(first)
    counts = talk.hub.statistics()
    assert counts == HubStatistics(queued=2, assigned=1, groups=1, workers=2, idle=0, objects=1, object_bytes=4)
    found = talk.hub.group_statistics(group)
    assert found is not None
    assert (found.cap, found.queued, found.assigned, found.active, found.failed) == (2, 2, 1, 1, False)
    assert found.workers == ((first, 1000 + first),)
    assert talk.hub.group_statistics(99) is None
    assert talk.hub.received_from(99) == 0


# ---- any message, from anybody, in any order ----

# Small numbers, so that ids meet: tasks, groups, functions, objects and workers are all drawn from here.
IDS = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 1 << 40 | 1, 1 << 40 | 2, (1 << 63) - 1])
SMALL = st.integers(-2, 5)
MAX_TASKS = st.sampled_from([0, 0, 2, -1])
FEW_IDS = st.lists(IDS, max_size=4)
BLOBS = st.lists(st.sampled_from([b"", b"f"]), max_size=4)
RECORDS = st.lists(
    st.builds(
        pack_result,
        task=IDS,
        attempt=st.integers(0, 3),
        status=st.sampled_from([0, 0, 1, 2, 9]),
        objects=st.integers(0, 2),
        micros=st.integers(-5, 10_000),
        payload=st.just(b"v"),
    )
    | st.binary(max_size=3),
    max_size=3,
)
PLACES = st.lists(st.tuples(IDS, SMALL, SMALL, SMALL), max_size=3).map(lambda rows: [n for row in rows for n in row])


@st.composite
def submits(draw: st.DrawFn) -> m.Submit:
    """Calls that fit together."""
    tasks = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    counts = draw(st.lists(st.integers(0, 2), min_size=len(tasks), max_size=len(tasks)) | st.just([]))
    references = draw(st.lists(IDS, min_size=sum(counts), max_size=sum(counts)))
    count = len(tasks)
    payloads = [b""] * count
    return m.Submit(draw(IDS), draw(SMALL), [7], [b"f"], tasks, [7] * count, payloads, counts, references, draw(PLACES))


MESSAGES: st.SearchStrategy[m.Message] = st.one_of(
    submits(),
    st.builds(m.OpenGroup, IDS, IDS, st.integers(-1, 2), SMALL, st.integers(0, 1), MAX_TASKS, st.just(b"")),
    st.builds(m.Hello, st.just(1), IDS, IDS, st.just(b"")),
    st.builds(m.Done, RECORDS, PLACES | FEW_IDS, FEW_IDS),
    st.builds(m.Returned, FEW_IDS, FEW_IDS),
    st.builds(m.CloseGroup, IDS, SMALL),
    st.builds(m.StartWorkers, IDS),
    st.builds(m.Cancel, FEW_IDS),
    st.builds(m.Block, FEW_IDS),
    st.builds(m.Submit, IDS, SMALL, FEW_IDS, BLOBS, FEW_IDS, FEW_IDS, BLOBS, FEW_IDS, FEW_IDS, FEW_IDS),
    st.builds(m.Put, FEW_IDS | PLACES),
    st.builds(m.Release, FEW_IDS),
    st.builds(m.InitializerFailed, st.just(b"")),
    st.builds(m.Output, SMALL, st.just(b"")),
    st.builds(m.Welcome, SMALL),
    st.sampled_from([m.Unblock(), m.Sync(), m.Exit()]),
)
WORKERS = st.integers(0, 6)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Received, st.sampled_from([DRIVER, DRIVER, 1, 1, 2, 2, 3, 4, 99, -1]), MESSAGES),
    st.builds(Received, st.sampled_from([1, 2, 3]), st.just(m.Hello(1, 1, 1, b""))),
    st.builds(WorkerStarted, WORKERS, st.integers(1, 9)),
    st.builds(LaunchFailed, WORKERS, st.just("why")),
    st.builds(WorkerExited, WORKERS, st.sampled_from([None, 0, -9]), FEW_IDS.map(tuple), RECORDS.map(tuple)),
    st.just(Tick()),
)
OPENING = [Received(DRIVER, m.OpenGroup(1, 0, 1, 2, 0, 0, b"")), Received(DRIVER, m.OpenGroup(2, 1, 1, 2, 1, 2, b""))]


@given(st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 0.004, 2.0]), st.integers(1, 2)), max_size=40))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_anything_from_anybody_gives_commands_or_a_protocol_error(script: list[tuple[Event, float, int]]) -> None:
    hub, now = Hub(idle_worker_s=1.0), 0.0
    for event in OPENING:
        hub.handle(event, now)
    for event, pause, times in script:
        now += pause
        for _ in range(times):
            _is_handled(hub, event, now)


def _is_handled(hub: Hub, event: Event, now: float) -> None:
    before = hub.statistics()
    try:
        commands = hub.handle(event, now)
    except ProtocolError:
        assert isinstance(event, Received)
        assert hub.statistics() == before, "a refused message changed something"
        commands = []
    hub.check()
    for command in commands:
        assert isinstance(command, Send | StartWorker | KillWorker | Inspect | Revoke | Drop | Note)
        if isinstance(command, Send):
            assert decode(encode(command.message)) is not None
