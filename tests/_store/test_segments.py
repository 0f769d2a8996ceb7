from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from scalepool._store.adopted import AdoptedSegments
from scalepool._store.files import FDS_PER_MAPPING
from scalepool._store.layout import place
from scalepool._store.mapping import Views
from scalepool._store.segments import RecycleLimits, SegmentFiles, SegmentRef, SegmentStore
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(params=["memfd", "file"])
def store(request: pytest.FixtureRequest) -> Iterator[SegmentStore]:
    before = open_fds()
    store = SegmentStore(files=SegmentFiles(request.param == "memfd"))
    yield store
    store.close()
    assert open_fds() == before
    assert store.statistics().open_fds == 0


def open_fds() -> int:
    return len(list(os.scandir("/proc/self/fd")))


def content(ref: SegmentRef) -> bytes:
    return bytes(Views().open(ref, "r"))


def test_buffers_lie_where_the_layout_says(store: SegmentStore) -> None:
    buffers = [b"a" * 100, bytearray(b"b" * 70_000), b"", memoryview(b"c")]
    ref = store.create(7, buffers)
    layout = place(len(buffer) for buffer in buffers)
    assert (ref.object_id, ref.pid, ref.size_bytes) == (7, os.getpid(), layout.size_bytes)
    whole = content(ref)
    for offset, buffer in zip(layout.offsets, buffers, strict=True):
        assert whole[offset : offset + len(buffer)] == bytes(buffer)


def test_buffers_of_any_item_type_are_stored_as_bytes(store: SegmentStore) -> None:
    ref = store.create(1, [memoryview(b"12345678" * 4).cast("q")])
    assert content(ref) == b"12345678" * 4


def test_an_empty_object_can_be_stored(store: SegmentStore) -> None:
    assert store.create(1, []).size_bytes == 0
    assert store.create(2, [b""]).size_bytes == 0


def test_a_freed_segment_is_written_again_and_shows_only_the_new_object(store: SegmentStore) -> None:
    fds = set()
    for object_id in range(6):  # fresh pages, then through a mapping, then through the mapping that was kept
        data = bytes([65 + object_id]) * (9 * MIB + object_id)
        ref = store.create(object_id, [data[:5], data[5:]])
        fds.add(ref.fd)
        assert content(ref)[64:] == data[5:]
        store.free(object_id)
    assert len(fds) == 1
    statistics = store.statistics()
    assert (statistics.created, statistics.recycled, statistics.idle) == (6, 5, 1)


def test_a_recycled_segment_may_grow_within_its_class(store: SegmentStore) -> None:
    for object_id, size in enumerate([100 * KIB, 100 * KIB, 110 * KIB, 90 * KIB, 111 * KIB, 111 * KIB]):
        data = os.urandom(size)
        ref = store.create(object_id, [data])
        assert content(ref) == data
        store.free(object_id)
    assert store.statistics().recycled == 5


def test_live_objects_never_share_a_segment(store: SegmentStore) -> None:
    for object_id in range(3):
        store.create(object_id, [b"x" * 100])
        store.free(object_id)
    refs = [store.create(10 + n, [bytes([n]) * 100]) for n in range(4)]
    assert [content(ref) for ref in refs] == [bytes([n]) * 100 for n in range(4)]


def test_an_object_exists_once_and_is_freed_once(store: SegmentStore) -> None:
    store.create(1, [b"x"])
    with pytest.raises(ValueError, match="object 1 exists already"):
        store.create(1, [b"y"])
    store.free(1)
    with pytest.raises(KeyError):
        store.free(1)
    assert content(store.create(1, [b"z"])) == b"z"


def test_a_late_reader_is_told_that_the_object_is_gone(store: SegmentStore) -> None:
    ref = store.create(1, [b"x" * 100])
    store.free(1)
    with pytest.raises(StoreError, match="object 1 is gone"):
        content(ref)
    store.create(2, [b"y" * 100])
    with pytest.raises(StoreError, match="object 1 is gone"):
        content(ref)


def test_idle_segments_are_closed_in_time() -> None:
    store = SegmentStore(limits=RecycleLimits(idle_s=10.0))
    store.create(1, [b"x"])
    store.free(1)
    store.expire(now=100.0)
    assert store.statistics().idle == 1
    store.expire(now=110.0)
    assert (store.statistics().idle, store.statistics().open_fds) == (0, 0)


def test_bytes_that_are_not_contiguous_are_refused_and_leave_nothing(store: SegmentStore) -> None:
    with pytest.raises((TypeError, BufferError)):
        store.create(1, [memoryview(b"abcdef")[::2]])
    assert store.statistics().open_fds == 0
    store.create(1, [b"the id is still free"])


# The budget of descriptors


def test_capacity_counts_objects_but_not_idle_segments() -> None:
    store = SegmentStore(max_fds=2)
    store.create(1, [b"x"])
    assert store.has_capacity()
    store.create(2, [b"x"])
    assert not store.has_capacity()
    store.free(2)
    assert store.has_capacity()
    store.close()


def test_idle_segments_make_room_for_an_object_of_another_class() -> None:
    store = SegmentStore(max_fds=2)
    for object_id in (1, 2):
        store.create(object_id, [b"x"])
    store.free(1)
    store.free(2)
    store.create(3, [bytes(MIB)])
    assert store.statistics().open_fds == 2
    store.close()


def test_a_mapping_that_costs_a_descriptor_is_counted() -> None:
    store = SegmentStore()
    for object_id in (1, 2):
        store.create(object_id, [b"x"])
        store.free(object_id)
    assert store.statistics().open_fds == 1 + FDS_PER_MAPPING
    store.close()


def test_the_default_budget_is_a_quarter_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 4096))
    assert SegmentStore().statistics().max_fds == 256
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert SegmentStore().statistics().max_fds == 65536


EXHAUSTED = """
import os, resource, sys
from scalepool._store.segments import SegmentFiles, SegmentStore
from scalepool.errors import StoreError
store = SegmentStore(files=SegmentFiles({use_memfd}))
store.create(1, [bytes(100_000)])
limit = sys.argv[1]
if limit == "room":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
else:
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, 4096))
before = store.statistics()
try:
    store.create(2, [bytes(2 << 20)])
except StoreError as error:
    assert isinstance(error, MemoryError) and store.statistics() == before, (before, store)
    print("refused:", error)
store.free(1)
store.create(2, [bytes(90_000)])
print("goes on")
"""


@pytest.mark.parametrize("use_memfd", [True, False])
@pytest.mark.parametrize("limit", ["room", "descriptors"])
def test_exhaustion_is_an_error_and_the_store_goes_on(limit: str, use_memfd: bool) -> None:
    script = EXHAUSTED.format(use_memfd=use_memfd)
    done = subprocess.run([sys.executable, "-c", script, limit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: no shared memory" in done.stdout
    assert "goes on" in done.stdout


def test_no_room_while_writing_closes_the_segment(store: SegmentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match=r"an object of 100048 bytes: .*No space left"):
            store.create(1, [bytes(100_000)])
    assert store.statistics().open_fds == 0
    assert store.create(1, [b"again"]).object_id == 1


# Objects of other processes

HOLDER = """
import sys
from scalepool._store.segments import SegmentFiles, SegmentStore
store = SegmentStore(files=SegmentFiles({use_memfd}))
ref = store.create(77, [b"h" * 100_000])
print(ref.pid, ref.fd, ref.size_bytes, flush=True)
input()
"""


@pytest.mark.parametrize("use_memfd", [True, False])
def test_an_adopted_object_outlives_its_killed_creator(use_memfd: bool) -> None:
    store = AdoptedSegments()
    script = HOLDER.format(use_memfd=use_memfd)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        ref = SegmentRef(77, *map(int, child.stdout.readline().split()))
        own = store.adopt(ref)
        assert store.adopt(ref) == own
        child.kill()
    assert content(own) == b"h" * 100_000
    assert len(store) == 1
    store.drop(77)
    with pytest.raises(KeyError):
        store.drop(77)
    with pytest.raises(StoreError, match="is gone"):
        store.adopt(ref)
    assert len(store) == 0


def test_closed_adopters_refuse() -> None:
    store, adopted = SegmentStore(), AdoptedSegments()
    ref = store.create(9, [b"x"])
    adopted.adopt(ref)
    adopted.close()
    adopted.close()
    assert len(adopted) == 0
    with pytest.raises(StoreError, match="closed"):
        adopted.adopt(ref)
    store.close()


def test_a_forked_child_cannot_write_into_the_parents_segments(store: SegmentStore) -> None:
    store.create(1, [b"x" * 100])
    store.free(1)
    pid = os.fork()
    if pid == 0:
        try:
            store.create(2, [b"y"])
        except StoreError as error:
            os._exit(42 if "parent" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


# The end


def test_a_closed_store_refuses_and_may_be_closed_again(store: SegmentStore) -> None:
    store.create(1, [b"x"])
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.create(2, [b"x"])
    store.free(1)  # a late word from the hub


def test_a_view_outlives_the_store(store: SegmentStore) -> None:
    view = Views().open(store.create(1, [b"kept" * 1000]), "r")
    store.close()
    assert view == b"kept" * 1000


def test_an_object_can_be_compared_with(store: SegmentStore) -> None:
    store.create(1, [b"first" * 30_000])
    store.create(2, [b"other"])
    store.free(2)
    store.create(2, [b"again"])
    assert store.content(1) == b"first" * 30_000
    assert store.content(2) == b"again"
    assert store.content(2).readonly  # type: ignore[union-attr]
    store.free(1)
    assert store.content(1) is None
    held = store.content(2)
    store.close()
    assert held == b"again"
    del held


def test_threads_create_and_free_without_mixing_bytes(store: SegmentStore) -> None:
    wrong: list[int] = []

    def work(thread: int) -> None:
        for round_ in range(40):
            object_id = thread * 1000 + round_
            data = object_id.to_bytes(8, "little") * 10_000
            if content(store.create(object_id, [data])) != data:
                wrong.append(object_id)
            store.free(object_id)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    statistics = store.statistics()
    assert (statistics.objects, statistics.created) == (0, 160)
    assert statistics.idle <= 4


@pytest.mark.slow
def test_an_object_above_two_gib() -> None:
    size = (2 << 30) + 5000
    store = SegmentStore()
    source = bytearray(size)
    source[0], source[-1], source[1 << 31] = 1, 2, 3
    view = Views().open(store.create(1, [source]), "r")
    assert (view[0], view[size - 1], view[1 << 31]) == (1, 2, 3)
    store.free(1)
    assert store.statistics().idle == 0  # above the limit of what is kept
    store.close()
