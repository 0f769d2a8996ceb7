"""What a process has asked the hub, and waits to be told.

An answer that names an actor is a reference to it, which the hub counts from the moment of the answer on. What it hears
of handles after the question could take away what it has just given. So those that went before are given back ahead of
the question: it finds no actor that nobody had a handle of. While it is open none is given back; those that went
meanwhile are looked at again when the answer has been taken in.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound, FindActor, OpenActor
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._runtime.client import Client
    from scalepool._runtime.values import Values

__all__ = ["Questions"]

_ANSWER_S: Final = 60.0


class Questions:
    """Those of one client.

    Parameters
    ----------
    client
        Whose they are.
    """

    __slots__ = ("_answers", "_client", "_held_back", "_names")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answers: dict[int, ActorFound | m.Inventory | None] = {}
        """By request, those included that have not come: a late answer is for nobody."""
        self._names = 0
        """How many open questions are about names of actors."""
        self._held_back: list[int] = []

    @contextmanager
    def asked(self, request: int, message: FindActor | OpenActor) -> Iterator[ActorFound]:
        """Ask about an actor's name, and wait for the answer; no handle is given back until the block ends.

        Raises
        ------
        SessionError
            When the session ends meanwhile, or does not answer within a minute.
        """
        values = self._client.kept
        assert values is not None  # handles are references
        with values.lock:
            if not self._names:
                self._settle_first(values)
            self._names += 1
        try:
            found = self.ask(request, message)
            assert isinstance(found, ActorFound)
            yield found
        finally:
            with values.lock:
                self._names -= 1
                held_back: list[int] = []
                if not self._names:
                    held_back, self._held_back = self._held_back, held_back
                for actor in held_back:
                    values.changes.extend((actor, -actor))  # to have it looked at again
            if held_back:
                self._client.pump.kick(now=False)

    def _settle_first(self, values: Values) -> None:
        hold, release = values.settle()
        queue = self._client.outgoing.queue
        if hold:
            queue.append(m.Hold(hold))
        if release:
            queue.append(m.Release(release))

    def ask(self, request: int, message: FindActor | OpenActor | m.Inquire) -> Any:
        """Ask, and wait for the answer; raises as ``asked`` does."""
        client, answers = self._client, self._answers
        answers[request] = None
        try:
            client.post(message, now=True)
            in_time = client.pump.wait_for(
                lambda: answers[request] is not None or client.closed, monotonic_s() + _ANSWER_S
            )
            answer = answers[request]
        finally:
            del answers[request]
        if answer is None:
            raise SessionError("the scalepool session was shut down" if in_time else "the session has not answered")
        return answer

    def answer(self, message: ActorFound | m.Inventory) -> None:
        """Take in an answer; one that nobody waits for any more gives back what it has brought."""
        if message.request in self._answers:
            self._answers[message.request] = message
        elif type(message) is ActorFound and message.actor and self._client.kept is not None:
            self._client.kept.adopt(message.actor, message.actor, "")  # and drop

    def hold_back(self, actor: int) -> bool:
        """Whether a handle that has gone must not be given back now; called under the lock of the values."""
        if self._names:
            self._held_back.append(actor)
        return self._names > 0
