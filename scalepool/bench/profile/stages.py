"""The stages of a task and the functions that they consist of: the one table to correct when a function moves.

A function's time counts for its own stage, without what it calls of other functions named here. What no function here
does is in nobody's time; see "between" in `scalepool.bench.profile.view`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from scalepool.errors import ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STAGES", "Place", "Stage", "StageError", "locate"]

Side = Literal["driver", "worker"]


class StageError(ScalepoolError):
    """A function of the table is not where the table says."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of a profile.

    Parameters
    ----------
    name
        Unique on its side.
    side
        In whose process it happens.
    what
        A few words.
    functions
        "module:function" or "module:Class.method", the module below ``scalepool``.
    idle
        Whether it is waiting, not work.
    """

    name: str
    side: Side
    what: str
    functions: tuple[str, ...]
    idle: bool = False


STAGES: Final = (
    Stage(
        "submit", "driver", "apply_async to the queue: handle, future, number",
        ("multiprocessing.pool:Pool.apply_async", "_runtime.group:WorkerGroup.submit", "_runtime.client:Client.submit"),
    ),
    Stage("encode", "driver", "pickle the arguments", ("_wire.payload:dumps_scalars", "_runtime.packing:Packer.pack")),
    Stage("batch", "driver", "many calls to one message", ("_runtime.outgoing:Outgoing.drain",)),
    Stage("hub", "driver", "take in calls and results, end tasks", ("_core.hub:Hub.handle",)),
    Stage("dispatch", "driver", "choose the worker for each task", ("_core.dispatch:Dispatcher.dispatch",)),
    Stage(
        "send", "driver", "message to bytes to socket",
        ("_runtime.links:PeerLinks.send", "_wire.codec:encode", "_net.unix:Hub.send"),
    ),
    Stage(
        "receive", "driver", "socket to bytes to message",
        ("_net.unix:Hub.receive_into", "_wire.codec:decode"),
    ),
    Stage("result", "driver", "unpickle the results", ("_wire.payload:loads_inline", "_runtime.packing:Packer.unpack")),
    Stage(
        "settle", "driver", "results to futures and handles",
        ("_runtime.client:Client.receive", "_runtime.client:Client.deliver", "_runtime.futures:TaskFuture.settle"),
    ),
    Stage("pump", "driver", "the loop around all that", ("_runtime.local:LocalStation.work",)),
    Stage("wait", "driver", "wait for the socket", ("_net.unix:Hub.poll",), idle=True),
    Stage(
        "receive", "worker", "socket to bytes to message to tasks",
        ("_net.unix:Peer.receive_into", "_wire.codec:decode", "_runtime.holdings:Holdings.add"),
    ),
    Stage(
        "decode", "worker", "unpickle the arguments",
        ("_wire.payload:loads_inline", "_runtime.packing:Packer.unpack"),
    ),
    Stage("run", "worker", "the function itself", ("_runtime.executor:Executor._call",)),
    Stage(
        "result", "worker", "pickle the result",
        ("_wire.payload:dumps_scalar", "_runtime.packing:Packer.pack_result"),
    ),
    Stage(
        "record", "worker", "flight record: what runs, what has ended",
        ("_runtime.executor:Executor.run", "_store.flight:FlightRecord.begin", "_store.flight:FlightRecord.end",
         "_store.flight:FlightRecord.log_result", "_wire.records:pack_result"),
    ),
    Stage("send", "worker", "message to bytes to socket", ("_wire.codec:encode", "_net.unix:Peer.send")),
    Stage(
        "pump", "worker", "the loop around all that",
        ("_runtime.worker:WorkerStation.run_next", "_runtime.worker:WorkerStation.work"),
    ),
    Stage("wait", "worker", "wait for the socket", ("_net.unix:Peer.poll",), idle=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a function is: ``getattr(owner, name)``."""

    owner: Any
    name: str
    function: Callable[..., Any]


def locate(function: str) -> Place:
    """Find a function of the table.

    Raises
    ------
    StageError
        When it is not there (any more).
    """
    module, _, path = function.partition(":")
    try:
        owner: Any = importlib.import_module(f"scalepool.{module}")
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        found = vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise StageError(
            f"the profile's table names scalepool.{module}:{path}, which is not there: correct bench/profile/stages.py"
        ) from error
    if not callable(found):
        raise StageError(f"the profile's table names scalepool.{module}:{path}, which is no plain function")
    return Place(owner, name, found)
