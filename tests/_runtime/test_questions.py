"""Questions about names of actors: the answer is a reference, which nothing that is given back meanwhile takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from _runtime.test_values import Holder
from scalepool._core.task import PLAIN
from scalepool._runtime.handles import ActorHandle, ActorMeta
from scalepool._runtime.outgoing import KeptCall
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound, FindActor
from scalepool._wire.messages import Inquire, Inventory
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from scalepool._wire.messages import Message

ACTOR = 77
META = ActorMeta("C", "c", {}, {}, (), 0)


class Asker(Holder):
    """A process that knows actors."""

    def handle(self, actor: int = ACTOR) -> ActorHandle:
        return ActorHandle(self.values.adopt(actor, actor, "C()"), META)

    def answers(self, request: int, actor: int) -> None:
        self.client.receive(ActorFound(request, actor, b""))


@pytest.fixture
def asker() -> Asker:
    return Asker()


def released(messages: list[Message]) -> list[int]:
    return [one for message in messages if isinstance(message, m.Release) for one in message.objects]


def test_a_handle_that_went_before_the_question_is_given_back_ahead_of_it(asker: Asker) -> None:
    handle = asker.handle()
    asker.said()
    other = asker.handle(78)
    asker.pump.on_wait = lambda: asker.answers(1, 0)
    del handle
    with asker.client.questions.asked(1, FindActor(1, b"c")):
        assert asker.said() == [m.Hold([78]), m.Release([ACTOR]), FindActor(1, b"c")]
    assert other._ref.id in asker.values.table


def test_a_handle_that_goes_meanwhile_is_not_given_back_until_the_answer_is_taken_in(asker: Asker) -> None:
    handles = [asker.handle()]
    asker.said()
    heard: list[Message] = []

    def hub() -> None:
        handles.clear()
        heard.extend(asker.said())
        asker.answers(1, ACTOR)

    asker.pump.on_wait = hub
    with asker.client.questions.asked(1, FindActor(1, b"c")) as found:
        again = asker.handle(found.actor)
    heard += asker.said()
    assert heard == [FindActor(1, b"c")]
    assert asker.values.table[ACTOR].count == 1
    del again
    assert released(asker.said()) == [ACTOR]
    assert asker.values.actors == set()


def test_one_that_goes_meanwhile_is_given_back_when_another_actor_was_found(asker: Asker) -> None:
    handles = [asker.handle()]
    refs = [asker.values.adopt(5, 5, "f")]
    asker.said()
    heard: list[Message] = []

    def hub() -> None:
        handles.clear()
        refs.clear()
        heard.extend(asker.said())
        asker.answers(1, 0)

    asker.pump.on_wait = hub
    with asker.client.questions.asked(1, FindActor(1, b"c")) as found:
        assert not found.actor
        assert asker.said() == []
    assert heard == [FindActor(1, b"c"), m.Release([5])], "other values are not held back"
    assert asker.said() == [m.Release([ACTOR])]


def test_an_answer_that_comes_too_late_is_given_back_and_not_kept(asker: Asker) -> None:
    with pytest.raises(SessionError, match="not answered"), asker.client.questions.asked(1, FindActor(1, b"c")):
        pass
    asker.said()
    asker.answers(1, ACTOR)
    asker.client.receive(Inventory(2, [], []))
    assert asker.said() == [m.Release([ACTOR])]
    assert asker.client.questions._answers == {}
    assert not asker.values.table


def test_an_interrupted_question_leaves_nothing_behind(asker: Asker) -> None:
    handle = asker.handle()
    asker.said()

    def interrupt() -> None:
        raise KeyboardInterrupt

    asker.pump.on_wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        asker.client.questions.ask(1, Inquire(1))
    with pytest.raises(KeyboardInterrupt), asker.client.questions.asked(2, FindActor(2, b"c")):
        pass
    assert asker.client.questions._answers == {}
    del handle
    assert released(asker.said()) == [ACTOR]


def test_the_end_of_the_session_is_an_answer(asker: Asker) -> None:
    asker.pump.on_wait = lambda: asker.client.close(SessionError("the test is over"))
    with pytest.raises(SessionError, match="shut down"):
        asker.client.questions.ask(1, Inquire(1))


def test_who_finds_an_actor_before_its_maker_has_its_handle_is_counted_too(asker: Asker) -> None:
    found = asker.handle()
    asker.said()
    kept = KeptCall("C()", 1, PLAIN, 0)
    arguments: Any = asker.values.pack(((), {}), kept)
    (own,) = asker.values.enqueue(asker.group.id, asker.fn, arguments, kept, ACTOR)
    assert asker.values.table[ACTOR].count == 2
    del found
    assert released(asker.said()) == []
    del own
    assert released(asker.said()) == [ACTOR]


def test_several_questions_at_once(asker: Asker) -> None:
    handle = asker.handle()
    asker.said()

    def hub() -> None:
        for request in (1, 2):
            asker.answers(request, 0)

    asker.pump.on_wait = hub
    with asker.client.questions.asked(1, FindActor(1, b"c")):
        with asker.client.questions.asked(2, FindActor(2, b"d")):
            del handle
            assert released(asker.said()) == []
        assert released(asker.said()) == []
    assert released(asker.said()) == [ACTOR]
