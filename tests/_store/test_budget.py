"""What all processes of a session may use together, and where objects go when it is spent."""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scalepool._base.ids import make_id
from scalepool._store.adopted import AdoptedSegments
from scalepool._store.budget import Budget, BudgetLimits, Patience
from scalepool._store.files import SegmentRef, in_memory
from scalepool._store.holder import copy_to_disk
from scalepool._store.mapping import Views
from scalepool._store.recycle import RecycleLimits
from scalepool._store.segments import SegmentStore
from scalepool.errors import ObjectStoreFullError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._store.holder import SegmentHolder

KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture
def account(tmp_path: Path) -> str:
    return str(tmp_path / "account")


def limits(folder: Path, memory: int = MIB, disk: int | None = MIB) -> BudgetLimits:
    return BudgetLimits(memory, disk, str(folder))


class Process:
    """A store with its budget, as one process has them."""

    def __init__(self, account: str, peer: int, limits: BudgetLimits) -> None:
        self.peer = peer
        self.budget = Budget(account, peer, limits)
        self.store = SegmentStore(budget=self.budget, limits=RecycleLimits(max_bytes=MIB))
        self._made = 0

    def put(self, size_bytes: int) -> SegmentRef:
        self._made += 1
        data = bytes([self._made]) * (size_bytes - 100)  # with its stamp it is just within that
        return self.store.create(make_id(self.peer, self._made), [data])

    def close(self) -> None:
        self.store.close()
        self.budget.close()


@pytest.fixture
def pair(account: str, tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    one, other = Process(account, 0, limits(tmp_path)), Process(account, 1, limits(tmp_path))
    yield one, other
    one.close()
    other.close()


def content(ref: SegmentRef) -> bytes:
    return bytes(Views().open(ref, "r"))


# The account


def test_processes_count_together_and_each_gives_back_its_own(account: str, tmp_path: Path) -> None:
    one, other = (Budget(account, peer, limits(tmp_path, memory=100)) for peer in (0, 1))
    assert one.take_memory(60)
    assert not other.take_memory(41)
    assert other.take_memory(40)
    assert one.usage() == other.usage() == (100, 0)
    one.give(memory_bytes=60)
    assert other.take_memory(60)
    one.close()
    other.close()


def test_what_the_dead_used_is_counted_no_more_and_their_slot_used_again(account: str, tmp_path: Path) -> None:
    driver, worker = (Budget(account, peer, limits(tmp_path)) for peer in (0, 1))
    driver.take_memory(10)
    worker.take_memory(500)
    worker.close()
    driver.take_memory(200, by_force=True)  # what is left of it
    driver.bury(1)
    driver.bury(1)
    assert driver.usage().memory_bytes == 210
    size_bytes = Path(account).stat().st_size
    third = Budget(account, 2, limits(tmp_path))
    third.take_memory(1)
    assert Path(account).stat().st_size == size_bytes
    assert driver.usage().memory_bytes == 211
    driver.close()
    third.close()


def test_a_killed_process_leaves_the_lock_and_true_numbers(account: str, tmp_path: Path) -> None:
    script = f"""
from scalepool._store.budget import Budget, BudgetLimits
budget = Budget({account!r}, 1, BudgetLimits(10**9))
print(flush=True)
while True:
    budget.take_memory(4096)
    budget.give(memory_bytes=4096)
"""
    budget = Budget(account, 0, limits(tmp_path))
    budget.take_memory(7)
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            child.kill()
        assert budget.usage().memory_bytes in (7, 7 + 4096)
        budget.bury(1)
        assert budget.usage().memory_bytes == 7
    budget.close()


def test_threads_of_one_process_do_not_take_more_than_there_is(account: str, tmp_path: Path) -> None:
    budget = Budget(account, 0, limits(tmp_path, memory=500))
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(budget.take_memory(1) for _ in range(200))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == 500
    budget.close()


def test_an_interrupt_as_soon_as_the_lock_is_taken_leaves_it_to_others(
    account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(account, 0, limits(tmp_path))
    flock = fcntl.flock

    def interrupted(fd: int, how: int) -> None:
        flock(fd, how)
        if how == fcntl.LOCK_EX:
            raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:  # with all frames that it went through, as a notebook does
        budget.take_memory(1)
    monkeypatch.undo()

    with Path(account).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert budget.take_memory(1)
    assert kept.tb is not None


def test_it_is_tight_when_three_quarters_are_in_use(account: str, tmp_path: Path) -> None:
    one, other = (Budget(account, peer, limits(tmp_path, memory=100)) for peer in (0, 1))
    one.take_memory(75)
    assert not Budget(account, 2, limits(tmp_path, memory=100)).tight
    one.take_memory(1)
    assert Budget(account, 2, limits(tmp_path, memory=100)).tight
    one.close()
    other.close()


def test_where_the_account_cannot_be_written_each_counts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(str(tmp_path / "account"), 0, limits(tmp_path, memory=100))

    def full(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert budget.take_memory(60)
        assert not budget.take_memory(60)
    assert budget.take_memory(10)
    assert budget.usage().memory_bytes == 70
    budget.close()


def test_half_of_the_free_disk_is_the_default(tmp_path: Path) -> None:
    budget = Budget("", 0, limits(tmp_path, disk=None))
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    assert not budget.take_disk(free)
    assert budget.take_disk(free // 4)
    assert not Budget("", 0, BudgetLimits(1)).take_disk(1)


# Memory, then disk, then an error


def test_beyond_the_memory_objects_go_to_disk_and_read_the_same(pair: tuple[Process, Process]) -> None:
    one, other = pair
    refs = [process.put(256 * KIB) for process in (one, other, one, other, one, other)]
    assert [in_memory(ref.fd) for ref in refs] == [True] * 4 + [False] * 2
    assert [content(ref)[:3] for ref in refs] == [bytes([n]) * 3 for n in (1, 1, 2, 2, 3, 3)]
    assert one.budget.usage() == (MIB, 512 * KIB)
    assert list(one.store.made_on_disk) == [refs[4].object_id]
    assert one.store.statistics().spilled == 1
    for ref in refs:
        (one if ref.object_id >> 40 == 0 else other).store.free(ref.object_id)
    one.store.trim()
    other.store.trim()
    assert one.budget.usage() == (0, 0)


def test_when_both_are_spent_the_error_says_how_much_and_what_to_do(
    pair: tuple[Process, Process], tmp_path: Path
) -> None:
    one, other = pair
    for _ in range(2):
        one.put(512 * KIB)
        other.put(512 * KIB)
    with pytest.raises(ObjectStoreFullError, match=r"1\.0 MiB of 1\.0 MiB memory and 1\.0 MiB") as caught:
        one.put(100 * KIB)
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, StoreError)
    assert isinstance(error, MemoryError)
    assert (error.memory_bytes, error.memory_limit_bytes) == (MIB, MIB)
    assert (error.disk_bytes, error.disk_limit_bytes) == (MIB, MIB)
    assert error.folder == str(tmp_path)
    assert "SCALEPOOL_SPILL_DIR" in str(error)
    assert str(error) == str(caught.value)
    other.store.free(make_id(1, 1))
    other.store.trim()
    assert content(one.put(100 * KIB))[:1] == bytes([4])


def test_idle_memory_makes_room_before_the_disk_is_used(pair: tuple[Process, Process]) -> None:
    one, _ = pair
    for size in (100, 300):
        one.store.free(one.put(size * KIB).object_id)
    assert one.store.statistics().idle == 2
    assert in_memory(one.put(900 * KIB).fd)
    assert one.store.statistics().idle == 0


def test_nothing_is_kept_for_later_while_memory_is_tight(pair: tuple[Process, Process]) -> None:
    one, other = pair
    other.put(800 * KIB)
    one.store.free(one.put(100 * KIB).object_id)
    assert one.store.statistics().idle == 0
    assert one.budget.usage().memory_bytes == 800 * KIB


def test_a_full_disk_is_that_error_too(pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = pair
    kept = one.put(MIB)
    write = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        if len(data) > 1000:
            raise OSError(28, "No space left on device")
        return write(fd, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ObjectStoreFullError, match="No space left"):
            one.put(100 * KIB)
        with pytest.raises(ObjectStoreFullError, match="No space left"):
            spill(one.store, one.budget, kept.object_id)
    assert one.budget.usage() == (MIB, 0)
    assert content(kept)[:1] == b"\1"


def test_a_folder_that_is_gone_is_that_error_too(account: str, tmp_path: Path) -> None:
    process = Process(account, 0, BudgetLimits(0, MIB, str(tmp_path / "gone")))
    with pytest.raises(ObjectStoreFullError, match="gone"):
        process.put(100 * KIB)
    assert process.budget.usage() == (0, 0)
    process.close()


# Waiting for room


def test_who_may_wait_gets_what_others_give_back(pair: tuple[Process, Process]) -> None:
    one, other = pair
    blocking = [other.put(512 * KIB) for _ in range(4)]
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        other.store.free(blocking.pop().object_id)
        return True

    one.store.wait = wait
    assert one.put(600 * KIB).size_bytes
    assert len(waited) == 2


def test_who_may_not_wait_gets_the_error(pair: tuple[Process, Process]) -> None:
    one, other = pair
    for _ in range(4):
        other.put(512 * KIB)
    one.store.wait = lambda _: False
    with pytest.raises(ObjectStoreFullError):
        one.put(100 * KIB)


def test_waiting_ends_when_nobody_gives_anything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("scalepool._store.budget.monotonic_s", lambda: clock[0])
    budget = Budget("", 0, limits(tmp_path, memory=100, disk=0))
    budget.take_memory(100)
    patience = Patience(budget)
    assert not patience.lasts(101)  # could never fit
    for clock[0], lasts in [(0.0, True), (4.9, True), (5.1, False)]:
        assert patience.lasts(50) is lasts
    assert not patience.lasts(20)  # nor does the next one wait for what did not come
    budget.give(memory_bytes=10)
    assert patience.lasts(50)
    clock[0] += 4.9
    assert patience.lasts(50)
    clock[0] += 1.0
    budget.take_memory(10)
    assert not patience.lasts(50)  # somebody tries and fails as well: that is no progress
    patience.rewarded()
    assert patience.lasts(50)
    clock[0] += 20.0  # much may have changed and changed back
    assert patience.lasts(50)


# Moving what is there


def spill(holder: SegmentHolder, budget: Budget, object_id: int) -> None:
    source = holder.begin_spill(object_id)
    if source is not None:
        try:
            assert holder.end_spill(object_id, copy_to_disk(budget, source))
        finally:
            os.close(source.fd)


def test_a_spilled_object_keeps_its_place_and_whoever_reads_it_goes_on(pair: tuple[Process, Process]) -> None:
    one, _ = pair
    ref = one.put(256 * KIB)
    views = Views()
    before = views.open(ref, "c")
    before[:1] = b"?"
    compared = one.store.content(ref.object_id)
    spill(one.store, one.budget, ref.object_id)
    spill(one.store, one.budget, ref.object_id)
    assert not in_memory(ref.fd)
    assert one.budget.usage() == (0, 256 * KIB)
    assert content(ref) == bytes([1]) * ref.size_bytes
    assert before[:2] == b"?\1"
    assert compared == one.store.content(ref.object_id)
    one.store.free(ref.object_id)
    assert one.budget.usage() == (0, 0)
    with pytest.raises(KeyError):
        spill(one.store, one.budget, ref.object_id)


def test_the_memory_of_a_discarded_object_is_not_written_again(pair: tuple[Process, Process]) -> None:
    one, _ = pair
    ref = one.put(100 * KIB)
    view = Views().open(ref, "r")
    one.store.discard(ref.object_id)
    one.put(100 * KIB)
    assert view[:1] == b"\1"
    with pytest.raises(KeyError):
        one.store.discard(ref.object_id)


def test_adopted_objects_are_spilled_and_counted_here(pair: tuple[Process, Process]) -> None:
    driver, worker = pair
    adopted = AdoptedSegments(driver.budget)
    ref = adopted.adopt(worker.put(256 * KIB))
    spill(adopted, driver.budget, ref.object_id)
    spill(adopted, driver.budget, ref.object_id)
    assert driver.budget.usage() == (256 * KIB, 256 * KIB)
    worker.store.discard(ref.object_id)
    assert driver.budget.usage() == (0, 256 * KIB)
    assert content(ref)[:1] == b"\1"
    adopted.drop(ref.object_id)
    assert driver.budget.usage() == (0, 0)
    with pytest.raises(KeyError):
        spill(adopted, driver.budget, ref.object_id)


def test_what_a_dead_worker_leaves_is_counted_by_who_keeps_it(account: str, tmp_path: Path) -> None:
    driver = Process(account, 0, limits(tmp_path))
    script = f"""
import os
from scalepool._store.budget import Budget, BudgetLimits
from scalepool._store.segments import SegmentStore
store = SegmentStore(budget=Budget({account!r}, 1, BudgetLimits({MIB}, {MIB}, {str(tmp_path)!r})))
for number in (1, 2, 3):
    print(*store.create(1 << 40 | number, [b"w" * {500 * KIB}]), flush=True)
input()
"""
    adopted = AdoptedSegments(driver.budget)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        refs = [SegmentRef(*map(int, child.stdout.readline().split())) for _ in range(3)]
        kept = [adopted.adopt(ref) for ref in refs[1:]]
        assert driver.budget.usage().memory_bytes >= 1000 * KIB
        child.kill()
    adopted.take_over(1)
    memory, disk = driver.budget.usage()
    assert 500 * KIB <= memory <= 520 * KIB
    assert 500 * KIB <= disk <= 520 * KIB
    assert [content(ref)[:1] for ref in kept] == [b"w", b"w"]
    adopted.close()
    assert driver.budget.usage() == (0, 0)
    driver.close()
