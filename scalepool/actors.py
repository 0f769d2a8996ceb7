"""Actors: objects that live in processes of their own; what is under ``scalepool.get_actor``, ``scalepool.kill`` etc.

An actor class is made by ``scalepool.remote`` (see ``tasks``), as in Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from scalepool._runtime.actors import ActorClass, ActorOptions, find_actor, mark_method
from scalepool._runtime.handles import ActorHandle, ActorMethod, end
from scalepool._runtime.instance import exit_actor as _exit_actor
from scalepool._wire.actors import EndMode

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "ActorOptions", "exit_actor", "get_actor", "kill", "method"]

F = TypeVar("F", bound="Callable[..., Any]")


def method(**options: Any) -> Callable[[F], F]:
    """Give a method of an actor class options of its own: ``@scalepool.method(num_returns=2)``.

    Mirrors ``ray.method``.

    Parameters
    ----------
    num_returns
        How many values a call makes; with more than one the method returns a sequence of so many.
    timeout_s
        How long a call may take, in seconds from its start; then the actor's process is killed, and ``get`` raises
        TaskTimeoutError. Ray has no such limit.
    concurrency_group
        The group of the class's ``concurrency_groups`` that its calls count for.
    max_task_retries
        As the class's option of that name, for this method. With ``retry_exceptions`` 3, if neither says anything.
    retry_exceptions
        ``True``, or the exception classes after which a call is tried again, in the same process, with fresh arguments
        and the state as it is then: up to ``max_task_retries`` times, deaths of the process included.

    Raises
    ------
    TypeError, ValueError
        When an option is unknown, or makes no sense.
    """
    marked: Callable[[F], F] = mark_method(options)
    return marked


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """Return a handle of the actor with this name.

    Mirrors ``ray.get_actor``. Different: the handle counts as any other; the actor lives as long as it does.

    Parameters
    ----------
    name
        As it was given to ``.options(name=...)``.
    namespace
        The same; ``None`` for actors that were given none.

    Raises
    ------
    ValueError
        When there is no such actor (any more).
    """
    return find_actor(name, namespace)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once, by SIGKILL: what it runs and what is queued for it fails with ActorDiedError.

    Mirrors ``ray.kill``.

    Parameters
    ----------
    actor
        A handle of it. One that is dead already may be killed again.
    no_restart
        With False only its process is killed: the actor begins anew if ``max_restarts`` allows that.
    """
    if not isinstance(actor, ActorHandle):
        raise TypeError(f"kill() takes an ActorHandle, not {actor!r}; to cancel a task use cancel(ref, force=True)")
    end(actor, EndMode.KILL if no_restart else EndMode.RESTART)


def exit_actor() -> NoReturn:
    """End the actor whose method calls this. The call, and those queued behind it, fail with ActorDiedError.

    Mirrors ``ray.actor.exit_actor``: the actor is not restarted; exit handlers of its process run.

    Raises
    ------
    RuntimeError
        When it is not called in a method of an actor.
    """
    _exit_actor()
