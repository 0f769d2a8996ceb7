from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scalepool._store.files import FDS_PER_MAPPING
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentFiles, SegmentRef, SegmentStore
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = bytes(range(256)) * 1000


@pytest.fixture(params=["memfd", "file"])
def store(request: pytest.FixtureRequest) -> Iterator[SegmentStore]:
    store = SegmentStore(files=SegmentFiles(request.param == "memfd"))
    yield store
    store.close()


@pytest.fixture
def ref(store: SegmentStore) -> SegmentRef:
    return store.create(1, [DATA])


def open_fds() -> int:
    return len(list(os.scandir("/proc/self/fd")))


# The two kinds


def test_a_private_view_is_writable_and_nobody_sees_it(ref: SegmentRef) -> None:
    views = Views()
    mine, other = views.open(ref, "c"), views.open(ref, "c")
    array = np.frombuffer(mine, np.uint8)
    assert array.flags.writeable
    array[:] = 7
    assert len(mine) == ref.size_bytes
    assert set(mine) == {7}
    assert other == views.open(ref, "r") == DATA


def test_a_readonly_view_cannot_be_made_writable(ref: SegmentRef) -> None:
    view = Views().open(ref, "r")
    array = np.frombuffer(view, np.uint8)
    assert view.readonly
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(TypeError):
        view[0] = 1


READER = """
import sys
from scalepool._store.mapping import Views
from scalepool._store.files import SegmentRef
view = Views().open(SegmentRef(*map(int, sys.argv[1:])), "c")
view[:4] = b"mine"
sys.stdout.buffer.write(view)
"""


def test_another_process_reads_and_writes_its_own_copy(ref: SegmentRef) -> None:
    place = [str(number) for number in ref]
    read = subprocess.run([sys.executable, "-c", READER, *place], capture_output=True, check=True).stdout
    assert read == b"mine" + DATA[4:]
    assert Views().open(ref, "r") == DATA


def test_an_empty_object_has_an_empty_view(store: SegmentStore) -> None:
    views = Views()
    empty = store.create(2, [])
    assert len(views.open(empty, "c")) == len(views.open(empty, "r")) == 0
    assert views.drain_released() == [2]


def test_a_view_costs_no_more_descriptors_than_it_must(ref: SegmentRef) -> None:
    views = Views()
    before = open_fds()
    held = [views.open(ref, "c"), views.open(ref, "r"), views.open(ref, "r")]
    assert open_fds() == before + 2 * FDS_PER_MAPPING
    del held
    views.close()
    assert open_fds() == before


def test_what_cannot_be_opened_leaves_no_descriptor(store: SegmentStore, ref: SegmentRef) -> None:
    store.free(1)
    views = Views()
    before = open_fds()
    for mode in ("c", "r"):
        with pytest.raises(StoreError, match="object 1 is gone"):
            views.open(ref, mode)  # type: ignore[arg-type]
    assert open_fds() == before


# Who still reads


def test_an_object_is_released_when_its_last_view_dies(ref: SegmentRef) -> None:
    views = Views()
    first, second = views.open(ref, "c"), views.open(ref, "c")
    assert views.live(1)
    del first
    assert views.live(1)
    assert views.drain_released() == []
    del second
    assert not views.live(1)
    assert views.drain_released() == [1]
    assert views.drain_released() == []


def test_numpy_arrays_slices_and_memoryviews_keep_the_view(ref: SegmentRef) -> None:
    views = Views()
    array = np.frombuffer(views.open(ref, "c"), np.uint8)
    part = array[10:20].reshape(2, 5).T
    del array
    assert views.live(1)
    window = memoryview(part)
    del part
    assert views.live(1)
    assert window[0, 0] == DATA[10]
    del window
    assert views.drain_released() == [1]


def test_other_objects_are_not_touched(store: SegmentStore, ref: SegmentRef) -> None:
    views = Views()
    other = store.create(2, [b"other"])
    one, two = views.open(ref, "c"), views.open(other, "c")
    assert one[:5] == DATA[:5]
    del one
    assert views.drain_released() == [1]
    assert views.live(2)
    assert two[:] == b"other"


def test_readonly_views_are_one_and_private_views_many(ref: SegmentRef) -> None:
    views = Views()
    shared = views.open(ref, "r")
    assert views.open(ref, "r").obj is shared.obj
    assert views.open(ref, "c").obj is not views.open(ref, "c").obj
    assert views.live(1)
    del shared
    assert views.drain_released() == [1]
    assert views.open(ref, "r")[:] == DATA


def test_an_object_opened_anew_is_not_reported(ref: SegmentRef) -> None:
    views = Views()
    views.open(ref, "c")
    again = views.open(ref, "c")
    assert views.drain_released() == []
    assert again[:4] == DATA[:4]
    del again
    assert views.drain_released() == [1]


class Diary:
    """Reads its view when the collector finalizes it, in a cycle, and notes whether the object was released by then."""

    def __init__(self, views: Views, ref: SegmentRef, notes: list[object]) -> None:
        self.me, self.views, self.notes = self, views, notes
        self.view = memoryview(views.open(ref, "c"))

    def __del__(self) -> None:
        self.notes.append((self.views.live(1), bytes(self.view[:4])))


def test_a_finalizer_in_a_cycle_still_reads_its_view(ref: SegmentRef) -> None:
    views, notes = Views(), []
    Diary(views, ref, notes)
    gc.collect()
    assert notes == [(True, DATA[:4])]
    assert views.drain_released() == [1]


def test_views_may_die_in_any_thread_and_inside_the_lock(ref: SegmentRef) -> None:
    views = Views()
    threshold = gc.get_threshold()
    gc.set_threshold(1)  # the collector runs inside open() and drain_released() too

    def work() -> None:
        for _ in range(50):
            cycle: list[object] = [memoryview(views.open(ref, "c"))]
            cycle.append(cycle)
            views.drain_released()

    try:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    views.drain_released()
    assert not views.live(1)
    assert "0 objects, 0 mappings" in repr(views)


def test_beyond_the_budget_a_private_view_is_a_copy_that_pins_nothing(store: SegmentStore, ref: SegmentRef) -> None:
    views = Views(max_mappings=0)
    before = open_fds()
    copy = views.open(ref, "c")
    assert open_fds() == before
    assert not views.live(1)
    assert views.drain_released() == [1]
    store.free(1)
    store.create(2, [b"z" * len(DATA)])
    assert copy[:] == DATA
    copy[:2] = b"ok"
    assert np.frombuffer(copy, np.uint8).flags.writeable


def test_a_copy_beside_a_mapping_does_not_release_the_object(ref: SegmentRef) -> None:
    views = Views(max_mappings=1)
    pinned, copy = views.open(ref, "c"), views.open(ref, "c")
    assert pinned[:] == copy[:] == DATA
    del copy
    assert views.drain_released() == []
    del pinned
    assert views.drain_released() == [1]


def test_more_views_than_descriptors(ref: SegmentRef) -> None:
    script = Path(__file__).with_name("many_views.py")
    place = [str(number) for number in (ref.object_id, ref.pid, ref.fd, ref.size_bytes)]
    done = subprocess.run([sys.executable, str(script), *place], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "300 views\n"), done.stderr


def test_another_mode_is_refused(ref: SegmentRef) -> None:
    with pytest.raises(ValueError, match="'w'"):
        Views().open(ref, "w")  # type: ignore[arg-type]


def test_a_failed_open_pins_nothing(store: SegmentStore, ref: SegmentRef) -> None:
    store.free(1)
    views = Views()
    with pytest.raises(StoreError):
        views.open(ref, "r")
    assert not views.live(1)
    assert views.drain_released() == []
