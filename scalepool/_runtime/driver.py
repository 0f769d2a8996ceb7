"""The session of a driver: everything that it has, put together.

Loaded when a session starts, while the zygote is coming up.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scalepool._core.hub import Hub
from scalepool._net.channel import HubChannel, open_hub_channel
from scalepool._runtime.client import Client
from scalepool._runtime.devices import session_gpus
from scalepool._runtime.local import LocalStation
from scalepool._runtime.output import Printer
from scalepool._runtime.pump import Pump
from scalepool._runtime.session import DriverSession
from scalepool._runtime.session_dir import SessionDir
from scalepool._runtime.storage import plan_of
from scalepool._wire import messages as m
from scalepool._wire.codec import MAX_MESSAGE_BYTES
from scalepool._wire.pickling.exchange import Exchange, install, sender_number
from scalepool.config import cpu_count, settings
from scalepool.engines.local import LocalEngine
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from scalepool._proc.spawn import Zygote
    from scalepool._runtime.timeline import Timeline
    from scalepool._store.plan import StorePlan
    from scalepool.config import Settings

__all__ = ["HubSession", "LocalSession"]


def _timeline_of(own: Settings, hub: Hub) -> Timeline | None:
    """Return what watches a hub, where the settings want that."""
    if not own.timeline:
        return None
    from scalepool._runtime.timeline import REMEMBERED, Timeline

    return Timeline(REMEMBERED if own.timeline == 1 else own.timeline, hub.has_task)


class HubSession(DriverSession):
    """A session whose hub and client are in the driver's own process, wherever its workers are."""

    _dir: SessionDir | None = None
    """Where workers find it, if they are on this host."""

    def close(self, *, at_exit: bool = False) -> None:
        """End all workers, fail what is unfinished, remove everything from the machine.

        With ``at_exit`` nobody is told: only daemon threads are left to wait, and these never run again.
        """
        if self.closed:
            return
        self.closed = True
        self.client.closed = True
        self.client.at_exit = at_exit
        self.client.pump.close()
        self.client.close(SessionError("the scalepool session was shut down"))
        self.engine.close()
        self.station.close()
        if self._dir is not None:
            self._dir.remove()

    def forked(self) -> None:
        """Be told that the process is a child of the driver's: nothing here may be used."""
        self.closed = True
        self.client.forked()

    def _decide(self, token: bytes, plan: StorePlan, copies: Mapping[int, Collection[int]] | None = None) -> None:
        """Make the hub, and the client that goes to it; ``copies``: as of a `Hub`."""
        own = self.settings
        install(Exchange(sender_number(token, m.DRIVER)))
        self.client = Client(m.DRIVER, own, plan)
        self.client.session = sender_number(token, m.DRIVER)
        self.hub = Hub(
            idle_worker_s=own.idle_worker_s,
            store_limit_bytes=plan.memory_bytes,
            lineage_limit_bytes=own.lineage_limit_bytes,
            capacity=self._capacity,
            copies=copies,
        )

    def _drive(self, station: LocalStation) -> None:
        """Have a station serve the hub, and the pump serve the station."""
        self.station = station
        station.printer = Printer(self.settings.worker_output)
        station.timeline = _timeline_of(self.settings, self.hub)
        self.client.pump = Pump(station, "scalepool-helper")

    def _capacity(self) -> Mapping[str, int]:
        from scalepool._runtime.demands import capacity_of

        return capacity_of(self.settings)


class LocalSession(HubSession):
    """Hub, socket, workers and client in the driver's own process.

    Parameters
    ----------
    arguments
        The session's settings, as far as they are given.
    zygote
        Started, but not set up.

    Raises
    ------
    SessionError
        When its directory or socket cannot be made.
    """

    def __init__(self, arguments: Mapping[str, object], zygote: Zygote) -> None:
        given = settings(arguments)
        gpus = session_gpus(given.num_gpus)
        self.cpus = given.num_cpus or cpu_count().count
        # Workers plan with the same.
        self.settings = own = given._replace(num_cpus=self.cpus, num_gpus=len(gpus))
        self._gpus = gpus
        self._dir = own_dir = SessionDir(zygote.announce)
        token = os.urandom(16)
        address = f"{own.transport}://{own_dir.path}/hub"
        self._channel: HubChannel | None = None
        try:
            self._channel = open_hub_channel(address, max_message_bytes=MAX_MESSAGE_BYTES)
            self._assemble(self._channel, token, address, plan_of(own, own_dir.path, zygote.pid), zygote)
        except BaseException:
            # An open socket would make the collector wait for ever when it finds the context.
            if self._channel is not None:
                self._channel.close()
            own_dir.remove()
            raise
        self.closed = False

    def _assemble(self, channel: HubChannel, token: bytes, address: str, plan: StorePlan, zygote: Zygote) -> None:
        self._decide(token, plan)
        self._drive(LocalStation(self.hub, channel, self.client, token))
        self.engine = LocalEngine(plan, address, token.hex(), self.settings, self.station.process_event, zygote)
        self.engine.gpus = self._gpus
        self.station.engine = self.engine
        self.client.peek = self.engine.is_running
