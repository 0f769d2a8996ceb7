"""Large data between two processes' ends: who may have it, that it comes whole, goes on where it broke off."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._core.sources import BROKEN, GIVEN_UP, HERE, UNREACHABLE
from scalepool._net.keys import AGENT, DRIVER, ClusterKeys
from scalepool._net.tls import SecureLinks, listen, local_host
from scalepool._runtime import bulk_server
from scalepool._runtime.bulk_client import Couriers, Outcome
from scalepool._runtime.bulk_server import BulkServer
from scalepool._runtime.direct import port_numbers
from scalepool._store.files import anonymous_file
from scalepool._store.incoming import Filled
from scalepool._store.segments import SegmentStore
from scalepool.errors import AuthenticationError, KeyFileError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("cryptography", reason="which makes the certificates")

KEYS = ClusterKeys.generate()
SIZE = (9 << 20) + 12_345
TICKET = b"t" * 32
LONG_S = 30.0


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LONG_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def bulk_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scalepool-bulk")]


class Place:
    """A process's end."""

    def __init__(self, role: str = AGENT) -> None:
        self.store = SegmentStore()
        self.said: list[str] = []
        self.links = SecureLinks(KEYS.only_for(role), role)
        self.server = BulkServer(self.links, "127.0.0.1", [0], self.said.append)
        self.server.admit(TICKET, self)
        self.outcomes: deque[Outcome] = deque()
        self.couriers = Couriers(self.links, TICKET, self.outcomes.append)
        self.partial: dict[int, Filled] = {}
        self.made: list[Filled] = []

    def take(self, object_id: int) -> tuple[int, Filled | None] | None:
        filled = self.partial.get(object_id)
        if filled is not None:
            return filled.open(), filled
        fd = self.store.find(object_id)
        return None if fd is None else (fd, None)

    def fetch(self, object_id: int, size: int = SIZE, source: Place | None = None, address: str = "") -> Filled:
        filled = Filled(anonymous_file("test", size), size)
        self.made.append(filled)
        self.couriers.fetch(1, source.server.address if source is not None else address, object_id, filled)
        return filled

    def outcome(self) -> Outcome:
        until(lambda: self.outcomes)
        return self.outcomes.popleft()

    def close(self) -> None:
        self.couriers.close()
        self.server.close()
        for filled in self.made:
            filled.end()
        self.store.close()


@pytest.fixture
def places() -> Iterator[tuple[Place, Place]]:
    pair = Place(), Place()
    yield pair
    for place in pair:
        place.close()
    until(lambda: not bulk_threads())


def content(filled: Filled) -> bytes:
    fd = filled.open()
    try:
        return os.pread(fd, filled.size_bytes, 0)
    finally:
        os.close(fd)


def test_objects_come_whole_one_after_the_other_over_one_link(places: tuple[Place, Place]) -> None:
    here, there = places
    for object_id in range(1, 4):
        there.store.create(object_id, [os.urandom(SIZE)])
        filled = here.fetch(object_id, source=there)
        assert here.outcome() == Outcome(object_id, 1, filled, HERE)
        assert content(filled) == there.store.content(object_id)
    assert bulk_threads().count("scalepool-bulk-serve") == 1
    assert not there.said


def test_what_is_not_there_or_is_used_for_something_else_by_now_does_not_come(places: tuple[Place, Place]) -> None:
    here, there = places
    here.fetch(1, source=there)
    assert here.outcome().result == BROKEN
    there.store.create(2, [os.urandom(SIZE)])
    here.fetch(2, size=SIZE - 64, source=there)  # as if it were another one: its stamp is not where it should be
    assert here.outcome().result == BROKEN
    here.fetch(2, source=there)  # the link is as good as before
    assert here.outcome().result == HERE


def test_a_lost_link_is_made_again_and_the_rest_comes_from_where_it_broke_off(places: tuple[Place, Place]) -> None:
    here, there = places
    there.store.create(1, [os.urandom(SIZE)])
    filled = Filled(anonymous_file("source", SIZE), SIZE)
    there.partial[1] = filled
    data = memoryview(there.store.content(1) or b"")
    assert filled.write(0, data[: 4 << 20])
    copy = here.fetch(1, source=there)
    until(lambda: copy.there_bytes == 4 << 20)
    for link in list(there.server._open):
        bulk_server.cut(link)
    assert here.outcome().result == BROKEN
    assert copy.there_bytes == 4 << 20
    assert filled.write(4 << 20, data[4 << 20 :])
    here.couriers.fetch(1, there.server.address, 1, copy)
    assert here.outcome().result == HERE
    assert content(copy) == data
    filled.end()


def test_what_is_still_coming_in_is_passed_on_meanwhile(places: tuple[Place, Place]) -> None:
    here, there = places
    data = memoryview(os.urandom(SIZE))
    source = there.partial[1] = Filled(anonymous_file("source", SIZE), SIZE)
    copy = here.fetch(1, source=there)
    for at in range(0, SIZE, 1 << 20):
        piece = data[at : at + (1 << 20)]
        assert source.write(at, piece)
        until(lambda: copy.there_bytes == source.there_bytes)
    assert here.outcome().result == HERE
    assert content(copy) == data
    broken = there.partial[2] = Filled(anonymous_file("source", SIZE), SIZE)
    here.fetch(2, source=there)
    assert broken.write(0, data[:100])
    broken.end()
    assert here.outcome().result == BROKEN
    source.end()


def test_what_is_given_up_is_not_written_any_more(places: tuple[Place, Place]) -> None:
    here, there = places
    source = there.partial[1] = Filled(anonymous_file("source", SIZE), SIZE)
    copy = here.fetch(1, source=there)
    assert source.write(0, memoryview(bytes(1 << 20)))
    until(lambda: copy.there_bytes)
    copy.end()
    assert copy.open() == -1
    assert source.write(1 << 20, memoryview(bytes(1 << 20)))
    assert here.outcome().result == BROKEN
    source.end()


def test_a_full_store_is_said(places: tuple[Place, Place]) -> None:
    here, there = places
    there.store.create(1, [os.urandom(SIZE)])
    full = Filled(os.open("/dev/full", os.O_WRONLY), SIZE)
    here.made.append(full)
    here.couriers.fetch(1, there.server.address, 1, full)
    outcome = here.outcome()
    assert outcome.result == GIVEN_UP
    assert "no room" in outcome.text


def test_nobody_there_is_noticed(places: tuple[Place, Place]) -> None:
    here, there = places
    address = there.server.address
    there.server.close()
    here.fetch(1, address=address)
    assert here.outcome().result == UNREACHABLE


def test_a_source_that_is_lost_ends_what_comes_from_there(places: tuple[Place, Place]) -> None:
    here, there = places
    source = there.partial[1] = Filled(anonymous_file("source", SIZE), SIZE)
    copy = here.fetch(1, source=there)
    assert source.write(0, memoryview(bytes(100)))
    until(lambda: copy.there_bytes)
    here.couriers.drop(1)
    assert here.outcome().result == BROKEN
    source.end()


# ---- who may ----


def test_another_clusters_certificate_is_refused_on_both_sides(places: tuple[Place, Place]) -> None:
    _, there = places
    there.store.create(1, [os.urandom(SIZE)])
    stranger = SecureLinks(ClusterKeys.generate(), AGENT)
    outcomes: deque[Outcome] = deque()
    couriers = Couriers(stranger, TICKET, outcomes.append)
    filled = Filled(anonymous_file("test", SIZE), SIZE)
    couriers.fetch(1, there.server.address, 1, filled)
    until(lambda: outcomes)
    assert outcomes[0].result == UNREACHABLE  # it does not trust us
    assert "certificate" in outcomes[0].text
    # One that takes whoever answers for the right one is not let in either.
    stranger._client.verify_mode = 0  # type: ignore[assignment]
    host, port = "127.0.0.1", int(there.server.address.rpartition(":")[2])
    with socket.create_connection((host, port)) as raw, stranger._client.wrap_socket(raw) as link:
        assert refused(link, bulk_server.HELLO + TICKET + bytes(24))
    until(lambda: there.said)
    assert "no certificate of this cluster" in there.said[0]
    assert filled.there_bytes == 0
    couriers.close()
    filled.end()


def refused(link: socket.socket, data: bytes) -> bool:
    """Whether nothing but the end comes of it."""
    link.settimeout(LONG_S)
    try:
        link.sendall(data)
        return link.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_without_the_sessions_ticket_nothing_is_sent(places: tuple[Place, Place]) -> None:
    here, there = places
    there.store.create(1, [os.urandom(SIZE)])
    for hello in (bulk_server.HELLO + b"x" * 32, b"scalepool-bulk-0" + TICKET):
        with here.links.connect("127.0.0.1", int(there.server.address.rpartition(":")[2]), AGENT, LONG_S) as link:
            assert refused(link, hello + bytes(24))
    until(lambda: there.said)
    assert "no ticket" in there.said[0]
    there.server.dismiss(TICKET)
    here.fetch(1, source=there)
    assert here.outcome().result == BROKEN


def test_roles_are_told_apart() -> None:
    driver, other, agent = Place(DRIVER), Place(DRIVER), Place()
    try:
        port = int(driver.server.address.rpartition(":")[2])
        agent.links.connect("127.0.0.1", port, DRIVER, LONG_S).close()
        with pytest.raises(AuthenticationError, match="another role"):
            agent.links.connect("127.0.0.1", port, AGENT, LONG_S)
        with other.links.connect("127.0.0.1", port, DRIVER, LONG_S) as link:  # a driver lets no driver in
            assert refused(link, bulk_server.HELLO + TICKET + bytes(24))
    finally:
        for place in (driver, other, agent):
            place.close()


def test_garbage_costs_nothing_and_is_told_of_once(places: tuple[Place, Place]) -> None:
    here, there = places
    port = int(there.server.address.rpartition(":")[2])
    for data in [b"GET / HTTP/1.0\r\n\r\n", bytes(100_000), os.urandom(100_000)] * 4:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            assert refused(raw, data) or raw.recv(100) is not None  # an alert, and the end
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    until(lambda: there.server._strangers == 16)
    assert bulk_threads().count("scalepool-bulk-serve") <= 16
    for one in idle:
        one.close()
    until(lambda: there.server._strangers == 0)
    assert len(there.said) == 1
    there.store.create(1, [os.urandom(SIZE)])
    here.fetch(1, source=there)
    assert here.outcome().result == HERE


def test_only_tls_1_3_is_spoken(places: tuple[Place, Place]) -> None:
    import ssl

    here, there = places
    here.links._client.minimum_version = ssl.TLSVersion.TLSv1_2
    here.links._client.maximum_version = ssl.TLSVersion.TLSv1_2
    here.fetch(1, source=there)
    assert here.outcome().result == UNREACHABLE


def test_without_certificates_there_are_no_links() -> None:
    for keys in (
        KEYS._replace(certificates={}),
        KEYS.only_for(DRIVER),
        KEYS._replace(certificates={**KEYS.certificates, AGENT: KEYS.certificates[AGENT]._replace(public="nonsense")}),
    ):
        with pytest.raises(KeyFileError):
            SecureLinks(keys, AGENT)
    shown = f"{KEYS!r} {KEYS.certificates!r} {KEYS.certificates[AGENT]}"
    assert "PRIVATE KEY" not in shown


# ---- addresses ----


def test_the_first_free_port_of_a_range_is_taken() -> None:
    with listen("127.0.0.1", [0]) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SessionError, match="cannot listen for large data"):
            listen("127.0.0.1", [port])
        with listen("127.0.0.1", [port, 0]) as other:
            assert other.getsockname()[1] != port
    assert local_host("127.0.0.1", 7877) == "127.0.0.1"


def test_port_ranges() -> None:
    assert list(port_numbers("")) == [0]
    assert list(port_numbers(" 7900-7902")) == [7900, 7901, 7902]
    assert list(port_numbers("7900")) == [7900]
    for wrong in ("x", "7900-", "0-5", "7902-7900", "65530-65536", "-5"):
        with pytest.raises(SessionError, match="SCALEPOOL_BULK_PORTS"):
            port_numbers(wrong)
