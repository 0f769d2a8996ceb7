"""A peer's side of the link: what it has submitted and how that ends. The same class in the driver and in workers."""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._base.ids import IdSource
from scalepool._core.task import PLAIN
from scalepool._runtime.failures import error_of, lost
from scalepool._runtime.functions import Exporter, Function
from scalepool._runtime.futures import TaskFuture
from scalepool._runtime.outgoing import Outgoing
from scalepool._runtime.packing import Packed, Packer
from scalepool._runtime.questions import Questions
from scalepool._runtime.refusal import refuse
from scalepool._runtime.storage import Storage
from scalepool._runtime.stored import StoredBuffers
from scalepool._runtime.waits import AllOver, SomeOver
from scalepool._store.files import SegmentLost, places_of
from scalepool._store.plan import StorePlan
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound
from scalepool._wire.messages import Message, Status
from scalepool._wire.payload import dumps_scalars, loads_inline
from scalepool._wire.pickling import exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalepool._core.task import Terms
    from scalepool._runtime.failures import GroupErrors
    from scalepool._runtime.inheritance import Inheritance
    from scalepool._runtime.pump import Pump
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.stored import Snapshot, StoredObject
    from scalepool._runtime.values import Values
    from scalepool._store.files import SegmentRef
    from scalepool.config import Settings
    from scalepool.errors import ScalepoolError

    BlockingWait = Callable[[Callable[[], bool], Sequence[TaskFuture] | Sequence[Slot], float | None], bool]

__all__ = ["Client", "GroupState"]

BURST = 256
"""Calls that are worth a message: who has queued so many sends them himself."""
_PICKLE: Final = 0x80
_VALUE: Final = int(Status.VALUE)
_LOADED: Final = frozenset({_VALUE, int(Status.ERROR)})
"""How a task ends whose payload is something packed."""
_CANCEL_WAIT_S = 2.0
"""How long ``cancel`` waits for word on whether the task has started: longer than the hub waits for its worker."""
_FORCE_WAIT_S = 5.0
"""How long it waits for the end of one that is stopped by force."""


class GroupState:
    """What the client knows of one of its groups."""

    __slots__ = (
        "captures", "closed", "errors", "gone", "id", "inheritance", "stored", "terminated", "terms", "unfinished"
    )  # fmt: skip

    def __init__(self, group_id: int, errors: GroupErrors) -> None:
        self.id = group_id
        self.errors = errors
        self.terms = PLAIN
        self.unfinished = 0
        self.captures = False
        self.closed = False
        self.terminated = False
        self.gone = False
        self.inheritance: Inheritance | None = None
        self.stored: Sequence[StoredObject] = ()
        """What its workers are given when they start, as far as that lies in the store."""

    def end(self) -> None:
        """Nothing of it is left: no worker of its own will start."""
        self.gone = True
        self.stored = ()
        if self.inheritance is not None:
            self.inheritance.release()


class Client:
    """Submits tasks and resolves their futures.

    Parameters
    ----------
    peer
        Number of this peer; its ids begin with it.
    settings
        The session's settings.
    plan
        How the session's store works; ``None``: without limits, for this process alone.
    blocking_wait
        How to wait for tasks of one's own, if not by pumping: a worker lends its slot meanwhile.
    """

    def __init__(self, peer: int, settings: Settings, plan: StorePlan | None = None) -> None:
        self.peer = peer
        self.storage = storage = Storage(peer, settings, plan or StorePlan())
        self.limit_bytes = min(settings.outstanding_limit_bytes, storage.outstanding_bytes)
        """What may be under way at once: arguments of tasks, and what a stream is ahead of its reader."""
        self.inline_limit_bytes = settings.inline_limit_bytes
        self.session = 0
        """A number that no other session has."""
        self._ids = IdSource(peer)
        self.store = storage.store
        self.store.wait = self._pass_time
        self.views = storage.views
        self.outgoing = Outgoing(self.views)
        self.new_object_id = self._new_task_id = self._ids.take
        self.stored = StoredBuffers(self, self.limit_bytes, storage.retained_bytes)
        self._carried = self.stored.carried
        exchange.current().ledger.keep = self.stored.keep
        self.packer = Packer(self.store, self.views, self.new_object_id, settings.inline_limit_bytes, self.stored)
        self.exporter = Exporter(self.packer)
        self.pump: Pump
        self.blocking_wait: BlockingWait | None = None
        self.peek: Callable[[int], bool] = lambda task: False
        self.eager: Callable[[int, int], bool] = lambda queued, group: True
        self.closed = False
        self.at_exit = False
        self._end_text = "the scalepool session was shut down"
        self._futures: dict[int, TaskFuture] = {}
        self._groups: dict[int, GroupState] = {}
        self._replies: deque[tuple[int, int, int, bytes, dict[int, SegmentRef]]] = deque()
        self.refused: set[int] = set()
        self.questions = Questions(self)
        self.outstanding_bytes = 0
        self.kept: Values | None = None
        """The values that this process has references to; see ``values_of``."""

    def _pass_time(self, seconds: float) -> bool:
        if self.pump.is_mine or self.closed:  # in a callback: what it would wait for has to come through itself
            return False
        self.pump.wait_for(lambda: self.closed, monotonic_s() + seconds)
        return True

    # ---- groups ----

    def open_group(self, opened: Callable[[int], m.OpenGroup], errors: GroupErrors) -> GroupState:
        """Open a group; ``opened`` makes the message for its id."""
        group = GroupState(self._ids.take(), errors)
        self._groups[group.id] = group
        self.post(opened(group.id))
        return group

    def close_group(self, group: GroupState, mode: m.CloseMode) -> None:
        """Say that no more tasks come, or that all that is left shall end now."""
        if not group.gone:
            group.closed = True
            group.terminated = group.terminated or mode is not m.CloseMode.DRAIN
            self.post(m.CloseGroup(group.id, mode), now=True)

    def post(self, message: Message, *, now: bool = False) -> None:
        """Queue a message for the hub."""
        self.outgoing.queue.append(message)
        self.pump.kick(now=now)

    # ---- tasks ----

    def submit(
        self,
        group: GroupState,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_done: Callable[[TaskFuture], None] | None,
        snapshot: Snapshot | None = None,
        terms: Terms | None = None,
        is_awaited: bool = False,
    ) -> TaskFuture:
        """Submit one call; arguments that cannot be pickled end its future with that error.

        One that ``is_awaited`` goes out when the caller begins to wait for it, which is his next step.
        """
        if self.closed:
            refuse(self._end_text, at_exit=self.at_exit)
        future = TaskFuture(self, group, on_done, function.name)
        data = dumps_scalars(args, kwargs, self.inline_limit_bytes)
        packed: Packed | None = None
        if data is None:
            try:
                packed = self.packer.pack((args, kwargs), label=("args", "kwargs"), snapshot=snapshot)
            except Exception as error:  # noqa: BLE001 - whatever the user's __reduce__ raises is this call's error, nobody else's
                future.settle(None, error)
                return future
            data = packed.data
            future.size_bytes = packed.size_bytes
            packed = packed if packed.references else None
        else:
            future.size_bytes = len(data)
        future.task_id = task = self._new_task_id()
        self.outstanding_bytes += future.size_bytes
        group.unfinished += 1
        self._futures[task] = future
        if packed is not None or function.packed.stored:
            self._carried.begin(task, packed, function)
        queue = self.outgoing.queue
        queue.append((group.id, terms or group.terms, task, function, data, packed))
        if not is_awaited or self.outstanding_bytes > self.limit_bytes:
            self.send_soon(len(queue), group.id)
        return future

    def send_soon(self, queued: int, group: int, *, waits: bool = False) -> None:
        """See to it that the call queued last, of so many, goes out; wait while too much is outstanding.

        There is no hurry where that call ``waits`` for others.
        """
        # Whoever queued the call before this one has seen to it that somebody will soon send them both.
        if waits and queued < BURST:
            self.pump.kick(now=False)
        elif (eager := self.eager(queued, group)) or queued == 1 or queued >= BURST:
            self.pump.kick(now=eager, burst=queued >= BURST)
        if self.outstanding_bytes > self.limit_bytes and not self.pump.is_mine:
            self.pump.wait_for(lambda: self.outstanding_bytes <= self.limit_bytes or self.closed)

    def is_running(self, future: TaskFuture) -> bool:
        """Whether a worker is in this task now, as far as this process can see."""
        return self.peek(future.task_id)

    def attend(self) -> None:
        """Somebody will wait for a future outside the pump."""
        self.pump.arm()

    def cancel(self, futures: Iterable[TaskFuture], *, force: bool = False) -> None:
        """Cancel those that have not started; returns when it is known which. With ``force`` stop the others, too."""
        wanted = [] if self.closed else [future for future in futures if not future.is_over]
        if not wanted:
            return
        tasks = [future.task_id for future in wanted]
        self.refused.difference_update(tasks)
        self.post(m.Stop(tasks) if force else m.Cancel(tasks), now=True)
        self.pump.wait_for(
            lambda: all(future.is_over or future.task_id in self.refused for future in wanted),
            monotonic_s() + (_FORCE_WAIT_S if force else _CANCEL_WAIT_S),
        )
        self.refused.difference_update(tasks)

    def wait(self, futures: Sequence[TaskFuture], timeout_s: float | None = None, number: int | None = None) -> bool:
        """Wait until all (or ``number``) of ``futures`` are over; False when time was up first."""
        deadline = None if timeout_s is None else monotonic_s() + max(0.0, timeout_s)
        if number is not None:
            return self.wait_for(SomeOver(futures, number), futures, deadline)
        return self.wait_for(AllOver(futures), futures, deadline)

    def wait_for(
        self, done: Callable[[], bool], futures: Sequence[TaskFuture] | Sequence[Slot], deadline: float | None
    ) -> bool:
        """Wait until ``done()``, for these to be over; False when ``deadline`` passed first."""
        lending = self.blocking_wait
        in_time = self.pump.wait_for(done, deadline) if lending is None else lending(done, futures, deadline)
        if not in_time and self.closed:
            refuse(self._end_text, at_exit=self.at_exit)
        return in_time

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until ``done()``; False when time was up first. See ``WorkerGroup.wait_until``."""
        deadline = None if timeout_s is None else monotonic_s() + max(0.0, timeout_s)
        in_time = self.pump.wait_for(done, deadline)
        if not in_time and self.closed:
            refuse(self._end_text, at_exit=self.at_exit)
        return in_time

    @property
    def pending(self) -> bool:
        """Whether there is something to send, or replies that an exception kept from being delivered."""
        return bool(self._replies or self.outgoing.pending)

    @property
    def busy(self) -> bool:
        """Whether answers are outstanding."""
        return bool(self._futures or (self.kept is not None and self.kept.awaited))

    # ---- what comes in ----

    def receive(self, message: Message) -> bool:
        """Take in a message from the hub; False when it is not for this part of a peer."""
        if type(message) is m.Replies:
            self._replies.extend(_rows(message))
            self.deliver()
        elif type(message) is m.CancelAnswer:
            self.refused.update(message.refused)
        elif type(message) is m.GroupClosed:
            group = self._groups.pop(message.group, None)
            if group is not None:
                group.end()
        elif type(message) is ActorFound or type(message) is m.Inventory:
            self.questions.answer(message)
        elif type(message) is m.Output and (future := self._futures.get(message.task)) is not None:
            future.add_output(message.text)
        elif type(message) is m.Yielded or type(message) is m.Taken:
            if self.kept is not None:
                self.kept.take_in(message)
        else:
            if type(message) is m.Trim:
                self.stored.retained.give_up()
            return self.storage.receive(message)
        return True

    def deliver(self) -> None:
        """End the futures whose replies have come. A callback that waits gets here again, so order is kept."""
        replies, futures = self._replies, self._futures
        while replies:
            task, status, micros, data, places = replies.popleft()
            future = futures.pop(task, None)
            if self._carried.tasks:
                self._carried.end(task)
            if future is None:
                _arrived(self, task, status, data, places)
                continue
            future.duration_s = micros * 1e-6
            group: GroupState = future.group
            group.unfinished -= 1
            self.outstanding_bytes -= future.size_bytes
            if status == _VALUE:
                try:
                    value = loads_inline(data) if data[0] == _PICKLE else self.packer.unpack(data, places)
                except KeyboardInterrupt as error:
                    # Perhaps the user's own: it goes on up. But this future has left the table, so nobody else would
                    # end it.
                    future.settle(None, error)
                    raise
                except SegmentLost as error:
                    future.settle(None, lost(error, f"the result of {future.name}", future.name))
                except BaseException as error:  # noqa: BLE001 - a result that raises when it is loaded, SystemExit included
                    future.settle(None, error)
                else:
                    future.size_bytes = len(data)
                    future.settle(value, None)
            elif status == Status.CANCELLED:
                _settle_cancelled(future, group)
            else:
                future.settle(None, self._error(future, group, status, data, places))

    def _error(
        self, future: TaskFuture, group: GroupState, status: int, data: bytes, places: dict[int, SegmentRef]
    ) -> BaseException:
        try:
            if status == Status.ERROR and data[0] != _PICKLE:  # it holds data, and came as results do
                data = self.packer.unpack(data, places)
            return error_of(group.errors, future.name, status, data)
        except KeyboardInterrupt as error:
            future.settle(None, error)
            raise
        except BaseException as error:  # noqa: BLE001 - an error whose class raises when it is loaded: this task's, too
            return error

    # ---- the end ----

    def forked(self) -> None:
        """Be told that this process is a child of the one that submitted: nothing here ends any more."""
        self.closed = True
        self._end_text = "this scalepool session belongs to the parent process; make a new pool after the fork"
        for group in self._groups.values():
            group.end()
        self.pump.forked()

    def close(self, error: ScalepoolError) -> None:
        """End every future that is open with ``error``, and whatever comes later; free the store."""
        self.closed = True
        self._end_text = str(error)
        if not self.at_exit:
            for future in list(self._futures.values()):
                future.settle(None, error)
            if self.kept is not None:
                self.kept.close(error)
        self._futures.clear()
        self.stored.clear()
        for group in self._groups.values():
            group.end()
        self.storage.close()


def _arrived(client: Client, value: int, status: int, data: bytes, places: dict[int, SegmentRef]) -> None:
    """Take in a value, or give back what nobody here asks for any more: the hub counts this process as its reader."""
    if client.kept is not None:
        client.kept.arrived(value, status, data, places)
    elif places and status in _LOADED and data and data[0] != _PICKLE:
        client.outgoing.released.extend(client.packer.objects_of(data))


def _settle_cancelled(future: TaskFuture, group: GroupState) -> None:
    if group.terminated:
        error = group.errors.terminated(f"the pool was terminated before {future.name} had finished")
        future.settle(None, error)
    else:
        future.settle_cancelled()


def _rows(message: m.Replies) -> Iterable[tuple[int, int, int, bytes, dict[int, SegmentRef]]]:
    places = places_of(message.objects)
    return zip(message.tasks, message.statuses, message.micros, message.payloads, repeat(places), strict=False)
