from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._wire import bundles
from scalepool._wire.bundles import Answer, Entry, Question
from scalepool.errors import ProtocolError


def entry(path: str, content: bytes, executable: int = 0) -> Entry:
    return Entry(path, len(content), bundles.content_digest(content), executable)


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_files_come_back_as_they_were(contents: list[bytes]) -> None:
    entries = [entry(f"0/m{number}.py", content) for number, content in enumerate(contents)]
    body = bundles.pack(contents)
    assert list(bundles.unpack(entries, body)) == list(zip(entries, contents, strict=True))


def test_a_body_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_PART_BYTES", 4)
    for size in (0, 1, 4, 5, 8, 9):
        body, got, is_whole = bytes(range(size)), b"", False
        while not is_whole:
            got, is_whole = bundles.add_part(got, bundles.part_of(body, len(got)))
        assert got == body
    with pytest.raises(ProtocolError, match="gone"):
        bundles.add_part(b"", b"")


def test_the_digest_is_of_names_contents_and_modes() -> None:
    one, other = entry("0/a.py", b"1"), entry("0/b.py", b"2")
    digest = bundles.bundle_digest([one, other])
    assert digest == bundles.bundle_digest([other, one])
    for different in (entry("0/c.py", b"1"), entry("0/a.py", b"3"), entry("0/a.py", b"1", 1)):
        assert bundles.bundle_digest([different, other]) != digest


def test_what_is_not_what_was_said_is_refused() -> None:
    entries = [entry("0/a.py", b"abc")]
    for body in (b"", b"noise", bundles.pack([b"abd"]), bundles.pack([b"ab"]), bundles.pack([b"x" * 1_000_000])):
        with pytest.raises(ProtocolError):
            list(bundles.unpack(entries, body))


PATHS = ["", "0", "0/", "/0/a.py", "0//a.py", "0/../a.py", "0/..", "0/./a.py", "../a.py", "1/a.py", "x/a.py", "0/a\0"]


@pytest.mark.parametrize("path", [*PATHS, "0/..\\a.py", "-1/a.py", "\u0660/a.py", "0/a/../../b"])
def test_no_path_leads_out_of_a_bundle(path: str) -> None:
    answer = Answer(bundles.HERE, roots=["/somewhere"], entries=[entry(path, b"")])
    with pytest.raises(ProtocolError):
        Answer.decode(answer.encode())


def test_answers_and_questions_come_back_as_they_were() -> None:
    left_out = {"p/_x.so": "git ignores it"}
    answer = Answer(
        bundles.HERE, "", ["/a", "/b"], [entry("0/p/a.py", b"1"), entry("1/p/b.py", b"2", 1)], left_out, True
    )
    assert Answer.decode(answer.encode()) == answer
    question = Question("p", "linux", 1, "ab", 7)
    assert Question.decode(question.encode()) == question


@given(st.binary(max_size=60))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, b"[1]", b"{}", b'["here", "", [], [["0/a"]], {}, false, true]', b'["p", "", "", "", 0]'):
        for kind in (Answer, Question):
            with pytest.raises(ProtocolError):
                kind.decode(data)  # type: ignore[attr-defined]


def test_metadata_is_told_from_code() -> None:
    assert bundles.is_metadata("0/p-1.0.dist-info/METADATA")
    assert not bundles.is_metadata("0/p/x.dist-info")
