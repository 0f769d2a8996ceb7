from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._wire import cluster as c
from scalepool._wire import codec
from scalepool._wire import messages as m
from scalepool.errors import ProtocolError

_VALUES: dict[str, Any] = {
    "int": st.integers(-(1 << 63), (1 << 63) - 1),
    "bytes": st.binary(max_size=40),
    "Ints": st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=5),
    "Blobs": st.lists(st.binary(max_size=9), max_size=5),
}
KINDS = [kind for kind, _, _ in c._BY_NUMBER]


@given(st.data())
def test_every_message_comes_back_as_it_was(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    message = kind(*(data.draw(_VALUES[annotation]) for annotation in kind.__annotations__.values()))
    read = c.decode(c.encode(message))
    assert type(read) is kind
    assert [list(one) if isinstance(one, tuple) else one for one in read] == list(message)
    route = c.route_of(c.encode(message))
    assert route == (message[:2] if kind in (c.Said, c.Heard, c.Resume) else None)


@given(st.binary(max_size=80))
def test_noise_is_refused(noise: bytes) -> None:
    c.route_of(noise)
    c.carries_objects(noise)
    try:
        c.decode(noise)
    except ProtocolError:
        return


def test_all_kinds_of_messages_are_known() -> None:
    assert len(set(KINDS)) == len(KINDS)
    with pytest.raises(ProtocolError):
        c.decode(bytes([len(KINDS)]))


def test_messages_that_describe_objects_are_told_by_their_heads() -> None:
    run = m.Run(0, (), (), (1,), (0,), (2,), (3,), (b"x",))
    done = m.Done((b"r",))
    for message in (run, done, m.Keep(1, b""), m.Yield(1, 0, 0, (2,), (b"",)), m.Replies((1,), (0,), (0,), (b"",))):
        assert not c.carries_objects(codec.encode(message))
        assert c.carries_objects(codec.encode(message._replace(objects=(1, 2, 3, 4))))
    assert c.carries_objects(codec.encode(m.Put((1, 2, 3, 4))))
    for other in (m.Free((1,)), m.Release((1,)), m.Discard((1,)), m.Sync(), m.Recall(3)):
        assert not c.carries_objects(codec.encode(other))
