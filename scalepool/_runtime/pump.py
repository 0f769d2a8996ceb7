"""Who touches the socket, and when.

There is no I/O thread. Whoever waits for a result takes the *role* and does the socket work meanwhile: a blocking call
then costs no hand-off between threads (20 to 60 us each). One helper thread steps in only when work is under way and
nobody waits, so that callbacks run and lazy iterators move while the user's code does something else.

Rules that keep this free of lost wake-ups:

1. ``role`` is held by the one thread that may touch the channel, for as long as it pumps.
2. Whoever queues something to do (``kick``) appends it first and looks at ``_sleeping`` second; the pumping thread sets
   ``_sleeping`` first and looks at the queue second. So one of the two sees the other.
3. A thread that wants the role while the helper has it raises ``_wanted`` and wakes the channel; the helper lets go.
4. A thread that cannot have the role because another user thread pumps waits on ``_turn``, which is notified after
   every round and when the role is released.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from scalepool._base.clock import monotonic_s as monotonic
from scalepool._runtime.interrupts import Deferral
from scalepool._runtime.pace import Pace, Sleep
from scalepool._runtime.refusal import is_ending
from scalepool._runtime.turns import Midst, Turns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pump", "Station"]

_IN_FINALIZER: Final = (
    "a finalizer (__del__, a callback of a weak reference, or the handler of a signal) waits for scalepool, and Python "
    "runs it in the midst of scalepool's own work in this thread, which cannot go on before it returns: a finalizer "
    "may submit tasks and drop references, but should not wait"
)

_HELPER_DELAY_S: Final = 0.002
"""How long the helper leaves the role to the foreground before it steps in."""
_HELPER_LINGER_S: Final = 0.2
"""How long the helper stays awake after the last work: parking and unparking costs more than a few idle looks."""


_PARKED_LOOK_S: Final = 1.0
"""How often a parked helper looks for alarms and for memory to give back; twenty microseconds each."""


class Station(Protocol):
    """What a pump drives: one end of a link with its state."""

    def work(self, *, arrived: bool) -> None:
        """Send what is queued and, when something has ``arrived``, handle it; never wait."""

    def pending(self) -> bool:
        """Whether something is queued that ``work`` would send."""

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until something arrives, ``wake`` is called, or time is up; return whether something arrived."""

    def wake(self) -> None:
        """Make ``wait`` return; from any thread."""

    def alarm_at(self) -> float | None:
        """When ``work`` wants to be called although nothing arrived."""

    def rest(self) -> None:
        """Called about once a second while nothing is going on, without the role: give memory back."""

    def broken(self, error: Exception) -> None:
        """``work`` raised ``error``, a bug of ours: see to it that nobody waits for what will not come."""

    def busy(self) -> bool:
        """Whether somebody should pump although nobody waits."""


class Pump:
    """Lets one thread at a time drive a station.

    Parameters
    ----------
    station
        What to drive.
    name
        Name of the helper thread.
    tick_s
        When given, the helper never waits on the channel but looks every ``tick_s`` seconds, and more rarely while all
        is quiet: for a worker, whose main thread must get the role at once after each task.
    """

    def __init__(self, station: Station, name: str, *, tick_s: float | None = None) -> None:
        self._station = station
        self.sleep = Sleep(_HELPER_DELAY_S, None if tick_s is None else Pace(tick_s))
        """The helper's, while it is awake."""
        self._turns = Turns()
        self._wanted = 0
        self._interrupts = Deferral()
        self._sleeping = False
        self._woken = False
        self._midst = midst = Midst()
        self.call_back = midst.call_back
        self.awake = False
        """Whether the helper thread looks after the station now."""
        self._armed = threading.Event()
        self._closed = False
        self._helper: threading.Thread | None = None
        self._name = name
        self.foreground_at = 0.0
        self.parked_look_s = _PARKED_LOOK_S
        """How often the parked helper looks: more often where only finalizers tell of something."""

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds the role: it runs a callback."""
        return self._turns.owner == threading.get_ident()

    @property
    def closed(self) -> bool:
        """Whether the pump was closed, perhaps by another thread a moment ago."""
        return self._closed

    # ---- waiting ----

    def wait_for(self, done: Callable[[], bool], deadline: float | None = None) -> bool:
        """Pump until ``done()``; False when ``deadline`` (monotonic seconds) passed first."""
        if done():
            return True
        if self._closed:  # after a fork the channel must not even be looked at
            return False
        if self._turns.owner == threading.get_ident():  # called from a callback under our own pump
            if self._midst.is_inside:
                raise RuntimeError(_IN_FINALIZER)
            return self._pump_until(done, deadline)
        try:
            return self._wait_in_turn(done, deadline)
        except KeyboardInterrupt as interrupt:
            raise interrupt.with_traceback(None) from None  # the user's stack matters, not how deep in here it was

    def _wait_in_turn(self, done: Callable[[], bool], deadline: float | None) -> bool:
        while True:
            if deadline is not None and monotonic() >= deadline:
                return False
            with self._interrupts:  # before the role is taken: a handler that raised right then would leave it taken
                if self._take_role():
                    try:
                        if self._pump_until(done, deadline):
                            return True
                    finally:
                        self._release_role()
                else:
                    if self._sleeping and self._station.pending():
                        self._wake()  # a worker queues results without a kick
                    self._turns.wait(done, deadline)
            if done():
                return True
            if self.closed:
                return False

    def _take_role(self) -> bool:
        turns = self._turns
        if turns.take():
            return True
        helper = self._helper
        if helper is not None and turns.owner == helper.ident:
            self._wanted += 1
            try:
                self._station.wake()
                if turns.take(0.05):
                    return True
            finally:
                self._wanted -= 1
        return False

    def _release_role(self) -> None:
        self.foreground_at = monotonic()
        self._turns.give_back()
        if not self.awake and (self._station.busy() or self._station.pending()):
            self.arm()

    def _pump_until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        station = self._station
        while True:
            self._sleeping = True
            try:
                # In this order, and at first too: it may have come true before this thread had the role, and whoever
                # makes it true later sees that somebody sleeps.
                if done():
                    return True
                if self._closed or (deadline is not None and monotonic() >= deadline):
                    return False
                arrived = False if station.pending() else self._wait(deadline)
            finally:
                self._sleeping = False
            self._woken = False
            self._work(arrived)
            if self._turns.waiting:
                self._turns.tell()

    def _wait(self, deadline: float | None) -> bool:
        """Wait on the channel; only here may the handler of a signal raise."""
        interrupts, station = self._interrupts, self._station
        timeout_s = _time_left(station.alarm_at(), deadline)
        if not interrupts.applies:
            return station.wait(timeout_s)
        interrupts.working = False
        try:
            interrupts.raise_noted()
            return station.wait(timeout_s)
        finally:
            interrupts.working = True

    def _work(self, arrived: bool) -> None:
        outer, self._midst.is_inside = self._midst.is_inside, True
        try:
            self._station.work(arrived=arrived)
        except Exception as error:
            self._station.broken(error)
            raise
        finally:
            self._midst.is_inside = outer

    # ---- work that somebody queued ----

    def kick(self, *, now: bool, burst: bool = False) -> None:
        """Something was queued: with ``now`` send it at once, else when it is convenient but soon.

        With ``burst`` much was queued, by a thread that goes on queuing and lets the helper have the interpreter only
        every five milliseconds: then this thread does the helper's work, and takes in what has arrived meanwhile.
        """
        if self._closed:
            return
        if burst and not self.is_mine and self._pump_once(look=True):
            pass
        elif self._sleeping:
            self._wake()
        elif now:
            self._pump_once(look=False)
        if self.awake:
            self.sleep.stir()
        else:
            self.arm()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            try:
                self._station.wake()
            except BaseException:  # of a signal's handler
                self._woken = False
                raise

    def _pump_once(self, *, look: bool) -> bool:
        """Do what there is to do; False when another thread does."""
        if self._turns.is_taken and not look:
            return False
        with self._interrupts:
            if not (self._take_role() if look else self._turns.take()):
                return False
            try:
                self._work(arrived=look and self._station.wait(0.0))
            finally:
                self._release_role()
        return True

    def arm(self) -> None:
        """Have the helper thread look after the station from now on, until it is no longer busy."""
        if self.awake:
            return
        if self._helper is None and not self._closed:
            helper = threading.Thread(target=self._help, name=self._name, daemon=True)
            self._helper = helper
            try:
                helper.start()
            except RuntimeError:
                self._helper = None
                if self.sleep.pace is None and not is_ending():
                    raise
                # No threads any more: who waits does all the work. A worker tries again with its next task.
                return
        self._armed.set()

    def _help(self) -> None:
        while not self._closed:
            if not self._armed.wait(self.parked_look_s):
                self._station.rest()
                if not self._needed() or self._turns.is_taken:
                    continue
            self._armed.clear()
            self.awake = True
            self._look_after()
            self.awake = False
            # Queued, or left by who had the role, between the last look and this line: nobody armed us for it.
            if self._needed() and not self._turns.is_taken:
                self._armed.set()

    def _look_after(self) -> None:
        idle_since = monotonic()
        self.sleep.stirred = True
        while not self._closed and monotonic() - idle_since < _HELPER_LINGER_S:
            if self._help_once():
                idle_since = monotonic()

    def _needed(self) -> bool:
        station = self._station
        alarm = station.alarm_at()
        return station.busy() or station.pending() or (alarm is not None and monotonic() >= alarm)

    def _help_once(self) -> bool:
        """One look of the helper; return whether there was something to look after that nobody else sees to."""
        self.sleep.sleep(self._station.pending)
        needed = self._needed()
        if self._closed or self._wanted or monotonic() - self.foreground_at < _HELPER_DELAY_S:
            return needed
        if needed:
            if not self._turns.take():
                return False  # who has the role arms us when he lets go
            try:
                if self.sleep.pace is not None:
                    self._work(arrived=True)
                else:
                    # An alarm that is due counts: a helper that left it to others would never rest again.
                    self._pump_until(lambda: bool(self._wanted or self._closed or not self._needed()), None)
            finally:
                self._turns.give_back()
        return needed

    # ---- the end ----

    def forked(self) -> None:
        """Be told that this process is a child of the one that pumps: nobody waits here, and nothing is sent."""
        self._closed = True
        self._turns = Turns()

    def close(self) -> None:
        """Let the helper end; waits return as soon as they look."""
        self._closed = True
        self.sleep.end()
        self._armed.set()
        self._station.wake()
        helper = self._helper
        # One that another thread is about to start, at this very moment, sees that it is not needed.
        if helper is not None and helper.is_alive() and helper is not threading.current_thread():
            helper.join(timeout=2.0)


def _time_left(alarm: float | None, deadline: float | None) -> float | None:
    """Return the seconds until the first of two moments, never negative; None where there is neither."""
    if deadline is None or (alarm is not None and alarm < deadline):
        deadline = alarm
    return None if deadline is None else max(0.0, deadline - monotonic())
