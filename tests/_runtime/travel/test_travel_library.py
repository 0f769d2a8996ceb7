"""What a program finds of its own code, and hands out."""

from __future__ import annotations

import importlib
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scalepool._runtime.travel.library import CodeLibrary, find_code
from scalepool._wire import bundles
from scalepool._wire.bundles import Answer, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 100_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path``; what is imported from there is forgotten again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def library(notes: list[str]) -> CodeLibrary:
    return CodeLibrary(LIMIT, notes.append, lambda: None)


def package(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"# {path}\n")
    importlib.invalidate_caches()


def asked(library: CodeLibrary, name: str, *, platform: str = "", now_s: float = 0.0, fresh: bool = False) -> Answer:
    question = Question(name, platform or sysconfig.get_platform(), int(fresh))
    return Answer.decode(library.answer(question, now_s))


def fetched(library: CodeLibrary, name: str, answer: Answer) -> dict[str, bytes]:
    body, is_whole = b"", False
    while not is_whole:
        part = library.answer(Question(name, sysconfig.get_platform(), 0, answer.digest, len(body)), 0.0)
        body, is_whole = bundles.add_part(body, part)
    return {entry.path: content for entry, content in bundles.unpack(answer.entries, body)}


def paths(answer: Answer) -> list[str]:
    return [entry.path for entry in answer.entries]


def test_a_module_is_one_file_and_a_package_all_of_it(folder: Path, library: CodeLibrary) -> None:
    package(
        folder, "travelm.py", "travelp/__init__.py", "travelp/sub/deep.py", "travelp/words.txt", "travelp/.git/x.py"
    )
    answer = asked(library, "travelm")
    assert (answer.verdict, answer.roots, paths(answer)) == (bundles.HERE, [str(folder)], ["0/travelm.py"])
    assert fetched(library, "travelm", answer) == {"0/travelm.py": b"# travelm.py\n"}
    answer = asked(library, "travelp")
    assert paths(answer) == ["0/travelp/__init__.py", "0/travelp/sub/deep.py", "0/travelp/words.txt"]
    assert fetched(library, "travelp", answer)["0/travelp/words.txt"] == b"# travelp/words.txt\n"


def test_parts_of_a_namespace_lie_in_several_folders(
    folder: Path, library: CodeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(folder, "one/travelns/a.py", "two/travelns/b.py", "three/travelns/notes.txt")
    for name in ("one", "two", "three"):
        monkeypatch.syspath_prepend(folder / name)
    answer = asked(library, "travelns")
    assert answer.namespace
    assert sorted(path.partition("/")[2] for path in paths(answer)) == ["travelns/a.py", "travelns/b.py"]
    package(folder, "travelempty/notes.txt")
    assert asked(library, "travelempty").verdict != bundles.HERE  # a folder of that name is no package


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("json", bundles.INSTALLED),
        ("sys", bundles.INSTALLED),
        ("numpy", bundles.INSTALLED),
        ("scalepool", bundles.INSTALLED),
        ("there_is_no_such_module", bundles.MISSING),
        ("../etc/passwd", bundles.MISSING),
        ("os.path", bundles.MISSING),
    ],
)
def test_only_code_of_ones_own_is_sent(library: CodeLibrary, name: str, verdict: str) -> None:
    if name == "numpy":
        pytest.importorskip("numpy")
    assert find_code(name).verdict == verdict


def test_edits_are_seen_a_moment_later_or_at_once(folder: Path, library: CodeLibrary) -> None:
    package(folder, "travele.py")
    first = asked(library, "travele")
    (folder / "travele.py").write_text("x = 1\n")
    assert asked(library, "travele", now_s=0.5).digest == first.digest
    assert asked(library, "travele", now_s=0.5, fresh=True).digest != first.digest
    assert library.answer(Question("travele", sysconfig.get_platform(), 0, first.digest), 0.5) == b""
    (folder / "travele.py").write_text("x = 12\n")
    second = asked(library, "travele", now_s=9.0)
    assert fetched(library, "travele", second) == {"0/travele.py": b"x = 12\n"}


def test_a_package_that_is_too_large_is_refused_and_the_user_told(
    folder: Path, library: CodeLibrary, notes: list[str]
) -> None:
    package(folder, "travell/__init__.py")
    (folder / "travell/much.py").write_text("#" * LIMIT)
    answer = asked(library, "travell")
    assert answer.verdict == bundles.REFUSED
    assert "travell" in answer.reason
    assert "SCALEPOOL_CODE_LIMIT_BYTES" in answer.reason
    assert "much.py" in notes[0]


def test_large_data_stays_and_the_user_is_told_when_the_rest_is_sent(
    folder: Path, library: CodeLibrary, notes: list[str]
) -> None:
    package(folder, "traveld/__init__.py")
    (folder / "traveld/model.bin").write_bytes(bytes(LIMIT // 4))
    answer = asked(library, "traveld")
    assert paths(answer) == ["0/traveld/__init__.py"]
    assert not notes
    fetched(library, "traveld", answer)
    assert "model.bin" in notes[0]


def test_what_git_ignores_is_left_out_but_for_what_is_loaded(folder: Path, library: CodeLibrary) -> None:
    package(
        folder,
        "travelg/__init__.py",
        "travelg/_version.py",
        "travelg/secret.py",
        "travelg/out/log.txt",
        "travelg/new.py",
    )
    (folder / ".gitignore").write_text("_version.py\nsecret.py\nout/\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    importlib.import_module("travelg._version")
    answer = asked(library, "travelg")
    assert paths(answer) == ["0/travelg/__init__.py", "0/travelg/_version.py", "0/travelg/new.py"]
    assert answer.left_out == {"travelg/secret.py": "git ignores it"}


def test_links_to_folders_are_followed_to_packages_alone(folder: Path, library: CodeLibrary) -> None:
    package(folder, "travelk/__init__.py", "common/__init__.py", "common/c.py", "data/d.py")
    (folder / "travelk/common").symlink_to(folder / "common")
    (folder / "travelk/data").symlink_to(folder / "data")
    (folder / "common/again").symlink_to(folder / "travelk")
    assert paths(asked(library, "travelk")) == [
        "0/travelk/__init__.py", "0/travelk/common/__init__.py", "0/travelk/common/c.py",
    ]  # fmt: skip


def test_a_hook_of_git_does_not_mislead(folder: Path, library: CodeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    package(folder, "travelh/__init__.py", "travelh/secret.py")
    (folder / ".gitignore").write_text("secret.py\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    monkeypatch.setenv("GIT_DIR", str(folder / "nowhere"))
    assert paths(asked(library, "travelh")) == ["0/travelh/__init__.py"]


def test_without_git_nothing_counts_as_ignored(
    folder: Path, library: CodeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(folder, "traveln/__init__.py", "traveln/secret.py")
    (folder / ".gitignore").write_text("secret.py\n")
    monkeypatch.setenv("PATH", str(folder))
    assert paths(asked(library, "traveln")) == ["0/traveln/__init__.py", "0/traveln/secret.py"]


def test_what_is_known_of_an_editable_installation_goes_with_it(folder: Path, library: CodeLibrary) -> None:
    package(folder, "travelv/__init__.py")
    metadata = folder / "travelv-3.2.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: travelv\nVersion: 3.2\n")
    answer = asked(library, "travelv")
    assert paths(answer)[-1] == "0/travelv-3.2.dist-info/METADATA"
    assert b"3.2" in fetched(library, "travelv", answer)["0/travelv-3.2.dist-info/METADATA"]


@pytest.mark.parametrize("name", ["script.py", "script", "my.script.py"])
def test_the_script_is_there_for_tracebacks(
    folder: Path, library: CodeLibrary, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder / name).write_text("x = 1\n")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(folder / name), raising=False)
    answer = asked(library, "__main__")
    assert fetched(library, "__main__", answer) == {"0/__main__.py": b"x = 1\n"}
    assert not answer.in_place
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>")
    assert find_code("__main__").verdict == bundles.MISSING


def test_questions_are_answered_in_a_thread_whatever_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(folder, "travelt.py")
    woken = threading.Semaphore(0)
    library = CodeLibrary(LIMIT, print, woken.release)
    library.ask((7, 1), b"noise")
    library.ask((7, 2), Question("travelt").encode())
    assert woken.acquire(timeout=60)
    asker, answer = library.answers.popleft()
    assert asker == (7, 2)
    assert Answer.decode(answer).verdict == bundles.HERE

    class Broken:
        def find_spec(self, *_: object) -> None:
            raise RuntimeError("a finder of somebody's")

    monkeypatch.setattr(sys, "meta_path", [Broken()])
    library.ask((7, 3), Question("travelu").encode())
    assert woken.acquire(timeout=60)
    assert "a finder of somebody's" in Answer.decode(library.answers.popleft()[1]).reason
    library.close()
