"""The hub's shell: strangers and malformed messages are dropped with a word, and it goes on."""

from __future__ import annotations

import random
import tempfile
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._core.events import WorkerStarted
from scalepool._core.hub import Hub
from scalepool._net.channel import PeerChannel, open_hub_channel, open_peer_channel
from scalepool._proc.death import ForkFailed
from scalepool._runtime.client import Client
from scalepool._runtime.group import ErrorTypes
from scalepool._runtime.local import LocalStation
from scalepool._runtime.pump import Pump
from scalepool._wire import messages as m
from scalepool._wire.codec import decode, encode
from scalepool.config import Settings
from scalepool.errors import SessionError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = b"0123456789abcdef"


class FakeEngine:
    """Starts nothing; the test plays the workers."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.killed: list[int] = []
        self.fates: dict[int, Any] = {}

    def start(self, worker: int, *_: object) -> str | None:
        self.started.append(worker)
        return None

    def kill(self, worker: int, *, force: bool) -> None:
        self.killed.append(worker)

    def bury(self, worker: int) -> None:
        pass


class World:
    def __init__(self, folder: str) -> None:
        self.path = f"unix://{folder}/hub"
        self.channel = open_hub_channel(self.path, max_message_bytes=1 << 20)
        self.client = Client(0, Settings())
        self.hub = Hub()
        self.station = LocalStation(self.hub, self.channel, self.client, TOKEN)
        self.pump = Pump(self.station, "test-helper")
        self.client.pump = self.pump
        self.engine = FakeEngine()
        self.station.engine = self.engine  # type: ignore[assignment]
        self.group = self.client.open_group(lambda group: m.OpenGroup(group, 0, 0, 2, 0, 0, b""), ErrorTypes())
        self.peers: list[PeerChannel] = []

    def submit(self) -> Any:
        return self.client.submit(self.group, self.client.exporter.export(len), ("abc",), {}, None)

    def peer(self) -> PeerChannel:
        self.peers.append(open_peer_channel(self.path, max_message_bytes=1 << 20))
        return self.peers[-1]

    def pump_until(self, condition: Any) -> None:
        assert self.pump.wait_for(condition, time.monotonic() + 30)

    def worker(self) -> tuple[int, PeerChannel]:
        """Play a worker that starts and says a valid Hello."""
        self.pump_until(lambda: self.engine.started)
        worker = self.engine.started.pop(0)
        self.station.events.append(WorkerStarted(worker, 4242))
        peer = self.peer()
        peer.send(encode(m.Hello(m.WIRE_VERSION, worker, 4242, TOKEN)))
        return worker, peer

    def receive(self, peer: PeerChannel, kind: type) -> Any:
        got: deque[Any] = deque()

        def arrived() -> bool:
            while peer.receive_into(lambda data: got.append(decode(data))):
                pass
            return any(type(message) is kind for message in got)

        deadline = time.monotonic() + 30
        while not arrived():
            assert time.monotonic() < deadline
            self.pump.wait_for(lambda: False, time.monotonic() + 0.005)
        return next(message for message in got if type(message) is kind)

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.pump.close()
        self.client.close(SessionError("the test is over"))
        self.station.close()


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="loc-") as folder:
        world = World(folder)
        yield world
        world.close()
        world.hub.check()


BAD_HELLOS = {
    "wrong_token": m.Hello(m.WIRE_VERSION, 1, 1, b"x" * 16),
    "short_token": m.Hello(m.WIRE_VERSION, 1, 1, b""),
    "other_version": m.Hello(m.WIRE_VERSION + 1, 1, 1, TOKEN),
    "no_hello": m.Sync(),
    "unknown_worker": m.Hello(m.WIRE_VERSION, 99, 1, TOKEN),
    "driver": m.Hello(m.WIRE_VERSION, -1, 1, TOKEN),
}


@pytest.mark.parametrize("kind", BAD_HELLOS)
def test_a_stranger_is_turned_away_and_the_real_worker_is_served(
    world: World, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.submit()
    stranger = world.peer()
    stranger.send(encode(BAD_HELLOS[kind]))
    stranger.send(encode(m.Output(1, b"fake\n")))
    _, peer = world.worker()

    run = world.receive(peer, m.Run)

    assert len(run.tasks) == 1
    captured = capsys.readouterr()
    assert "dropped a message" in captured.err
    assert "fake" not in captured.out
    assert not stranger.receive_into(lambda data: None)


def test_malformed_messages_are_dropped_one_by_one(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    future = world.submit()
    _, peer = world.worker()
    world.receive(peer, m.Run)
    choose = random.Random(3)
    good = [
        encode(message)
        for message in (m.Done([b"x" * 40], [], []), m.Returned([1, 2], [3]), m.Block([1]), m.Output(1, b"x"))
    ]
    for data in good:
        for cut in range(len(data)):
            peer.send(data[:cut])
        for _ in range(20):
            broken = bytearray(data)
            broken[choose.randrange(len(broken))] ^= 1 << choose.randrange(8)
            if broken[0] != data[0] or data is good[0]:
                peer.send(bytes(broken))
    peer.send(b"\xff" * 100)
    peer.send(encode(m.Output(1, b"still served\n")))

    out = ""

    def served() -> bool:
        nonlocal out
        captured = capsys.readouterr()
        out += captured.out
        return "still served" in out

    world.pump_until(served)
    assert not future.done() or future.exception(0) is not None


def test_messages_that_only_a_hub_sends_are_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    future = world.submit()
    _, peer = world.worker()
    world.receive(peer, m.Run)
    peer.send(encode(m.Replies([future.task_id], [0], [0], [b"\x80"])))
    peer.send(encode(m.Free([1])))
    peer.send(encode(m.Output(2, b"after\n")))
    err = ""

    def after() -> bool:
        nonlocal err
        err += capsys.readouterr().err
        return "after" in err

    world.pump_until(after)
    assert err.count("dropped a message") == 2
    assert not future.done()


def test_workers_that_cannot_be_started_fail_the_tasks(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    future = world.submit()
    for _ in range(50):
        world.pump.wait_for(lambda: bool(world.engine.started) or future.done(), time.monotonic() + 30)
        if future.done():
            break
        world.station.process_event(ForkFailed(world.engine.started.pop(0), "no more processes", 11))

    assert isinstance(future.exception(0), WorkerDiedError)
    assert "no more processes" in capsys.readouterr().err


def test_what_is_pending_elsewhere_does_not_keep_work_from_returning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a subclass says whose threads have something for the next call of work.
    monkeypatch.setattr(world.station, "pending", lambda: True)
    world.station.work(arrived=False)
