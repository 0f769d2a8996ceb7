"""An actor that runs several calls at once: in threads, or as coroutines on one event loop.

The main thread takes calls as they come and hands them on; whoever has finished one logs its result and wakes the main
thread, which sends. Each *concurrency group* has its own limit. What waits for its turn waits here, in order, and can
still be taken back.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime import kept
from scalepool._runtime.executor import KeptItem
from scalepool._runtime.instance import LOOP_NAME, Method
from scalepool._store.flight import MAX_DEPTH
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from scalepool._runtime.client import Client
    from scalepool._runtime.executor import WorkItem
    from scalepool._runtime.instance import Plan
    from scalepool._runtime.packing import Packed
    from scalepool._runtime.worker import WorkerStation

__all__ = ["Concurrency", "item_of_thread"]

_NOTED_MAX: Final = MAX_DEPTH - 1
_running: ContextVar[KeptItem | None] = ContextVar("_running", default=None)


def item_of_thread() -> KeptItem | None:
    """Return the call of an actor that the calling thread, or coroutine, runs; ``None`` where it runs none."""
    return _running.get()


class _Lane:
    """One concurrency group."""

    __slots__ = ("idle", "limit", "running", "turn", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: deque[KeptItem] = deque()
        self.idle = 0
        self.turn: deque[KeptItem] = deque()


class Concurrency:
    """Runs the calls of one actor at the same time.

    Parameters
    ----------
    station, client
        The worker's.
    plan
        How.
    """

    def __init__(self, station: WorkerStation, client: Client, plan: Plan) -> None:
        self._results = station.results
        self._tracer = station.tracer
        self._client = client
        self._executor = station.executor
        self.group = station.executor.group
        """The group of all its calls."""
        self._lanes = {name: _Lane(limit) for name, limit in plan.limits.items()}
        self._lock = threading.Lock()  # of the flight record, and the order of results in it
        self._numbers = itertools.count(1)
        self._noted = 0
        self._unnoted: set[int] = set()
        self._change = threading.Condition(threading.Lock())  # of the lanes
        self._loop: asyncio.AbstractEventLoop | None = None
        self.loop_thread = 0
        """That of the event loop; 0: there is none."""
        self.tasks: dict[int, asyncio.Task[bool]] = {}
        """The calls that run as coroutines."""
        self.begun: dict[int, tuple[object, float, int]] = {}
        """The calls that run: their functions, since when, and in which thread."""
        self._interrupted: set[int] = set()
        if plan.is_async:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._run_loop, args=(self._loop,), name=LOOP_NAME, daemon=True).start()

    @property
    def item(self) -> KeptItem | None:
        """The call that the calling thread, or coroutine, runs."""
        return _running.get()

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the constructor where methods are called: on the event loop if there is one."""
        loop = self._loop
        if loop is None:
            return fn(*args, **kwargs)
        item = self._executor.item
        done = threading.Event()
        ended: list[Any] = []

        def construct() -> None:
            _running.set(item if isinstance(item, KeptItem) else None)
            try:
                ended.append(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised below
                ended.extend((None, error))
            done.set()

        loop.call_soon_threadsafe(construct)
        done.wait()
        if len(ended) > 1:
            raise ended[1]
        return ended[0]

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    # ---- calls come ----

    def take(self, item: WorkItem) -> None:
        """Run a call now, or when it is its turn."""
        assert isinstance(item, KeptItem)
        try:
            method = item.slot.fn or item.slot.load(self._executor.packer)
            group = method.group if isinstance(method, Method) else ""
        except BaseException as error:  # noqa: BLE001 - whatever loading it raises is this call's error
            self._begin(item)
            self._end(item, self._executor.pack_failure(item, error), 0)
            return
        lane = self._lanes.get(group) or self._lanes[""]
        with self._change:
            if lane.running >= lane.limit:
                lane.waiting.append(item)
                return
            lane.running += 1
        self._start(item, lane)

    def take_back(self, tasks: Collection[int]) -> list[WorkItem]:
        """Return those of ``tasks`` that have not begun; they will not."""
        found: list[WorkItem] = []
        with self._change:
            for lane in self._lanes.values():
                back = [item for item in lane.waiting if item.task in tasks]
                found.extend(back)
                for item in back:
                    lane.waiting.remove(item)
        return found

    def _start(self, item: KeptItem, lane: _Lane) -> None:
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._spawn, item, lane)
            return
        with self._change:
            lane.turn.append(item)
            if lane.idle:
                lane.idle -= 1
                self._change.notify_all()
                return
        number = next(self._numbers)
        threading.Thread(target=self._work, args=(lane,), name=f"actor-call-{number}", daemon=True).start()

    def _next(self, lane: _Lane) -> KeptItem | None:
        """One call of the group is over: return the next one if there is one."""
        with self._change:
            if lane.waiting:
                return lane.waiting.popleft()
            lane.running -= 1
            if self._loop is None:  # the thread that asks waits for another call
                lane.idle += 1
            return None

    # ---- in threads ----

    def _work(self, lane: _Lane) -> None:
        while True:
            with self._change:
                while not lane.turn:
                    self._change.wait()
                item: KeptItem | None = lane.turn.popleft()
            while item is not None:
                self._run(item)
                item = self._next(lane)

    def _run(self, item: KeptItem) -> None:
        _running.set(item)
        self._begin(item)
        started = monotonic_s()
        try:
            values = kept.call(item, self._executor.packer)
            micros = int((monotonic_s() - started) * 1e6)
            ended = self._executor.pack_values(item, values)
            del values
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are this call's errors, too
            micros = int((monotonic_s() - started) * 1e6)
            ended = self._executor.pack_failure(item, error)
        _running.set(None)
        self._end(item, ended, micros)

    # ---- on the loop ----

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop_thread = threading.get_ident()
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def _spawn(self, item: KeptItem, lane: _Lane) -> None:
        assert self._loop is not None
        self._begin(item)
        task = self._loop.create_task(self._await(item))
        self.tasks[item.task] = task
        task.add_done_callback(lambda task: self._over(item, lane, task))

    async def _await(self, item: KeptItem) -> bool:
        """Run a call; return whether it has ended, or should be given back as it was cancelled."""
        _running.set(item)
        started = monotonic_s()
        try:
            values = await kept.call_async(item, self._executor.packer)
            micros = int((monotonic_s() - started) * 1e6)
            ended = self._executor.pack_values(item, values)
            del values
        except BaseException as error:  # noqa: BLE001 - CancelledError and SystemExit are this call's errors, too
            if isinstance(error, asyncio.CancelledError) and item.task in self._interrupted:
                return False
            micros = int((monotonic_s() - started) * 1e6)
            ended = self._executor.pack_failure(item, error)
        self._end(item, ended, micros)
        return True

    def _over(self, item: KeptItem, lane: _Lane, task: asyncio.Task[bool]) -> None:
        del self.tasks[item.task]
        self._interrupted.discard(item.task)
        if task.cancelled() or not task.result():
            with self._lock:
                self._note_end(item)
            self._client.post(m.Returned([item.task], ()), now=True)
        following = self._next(lane)
        if following is not None:
            self._spawn(following, lane)

    def interrupt(self, tasks: Collection[int]) -> set[int]:
        """Cancel those of ``tasks`` that are coroutines; they are given back when they have ended by that."""
        running = {number: task for number in tasks if (task := self.tasks.get(number)) is not None}
        if self._loop is not None:
            self._interrupted.update(running)
            for task in running.values():
                self._loop.call_soon_threadsafe(task.cancel)
        return set(running)

    # ---- what is told of them ----

    def _begin(self, item: KeptItem) -> None:
        """Note in the flight record that a call begins; if that is full, the hub knows what it means."""
        self.begun[item.task] = (item.slot.fn, monotonic_s(), threading.get_ident())
        with self._lock:
            if self._tracer is not None:
                self._tracer.begin(item)
            if self._noted >= _NOTED_MAX:
                self._unnoted.add(item.task)
                return
            self._noted += 1
            self._executor.flight.begin(item.task)

    def _end(self, item: KeptItem, ended: tuple[int, bytes, Packed | None], micros: int) -> None:
        with self._lock:
            record = self._executor.log(item, *ended, micros)
            self._note_end(item)
            self._results.add(item, record, ended[2])
        self._client.pump.kick(now=True)

    def _note_end(self, item: KeptItem) -> None:
        self.begun.pop(item.task, None)
        if self._tracer is not None:
            self._tracer.end(item)
        if item.task in self._unnoted:
            self._unnoted.discard(item.task)
        else:
            self._noted -= 1
            self._executor.flight.end(item.task)
