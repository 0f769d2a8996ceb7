"""The session's folder: private, locked, and swept when its session is gone."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import tempfile
import time
from pathlib import Path

import pytest

from scalepool._runtime import session_dir
from scalepool._runtime.session_dir import SessionDir, sweep


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(session_dir, "_MAX_ROOT_BYTES", 1000)
    return tmp_path


def make(root: Path, name: str = "x", *, mode: int = 0o700, lock: bool = True, age_s: float = 3600) -> Path:
    path = root / f"scalepool-{os.getuid()}-{name}"
    path.mkdir()
    if lock:
        (path / "lock").touch()
    (path / "hub").touch()
    path.chmod(mode)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_it_is_private_and_goes_with_everything_in_it(root: Path) -> None:
    own = SessionDir()
    found = Path(own.path).stat()

    assert Path(own.path).parent == root
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == os.getuid()
    (Path(own.path) / "hub").touch()
    own.remove()
    assert list(root.iterdir()) == []


def test_it_is_told_before_it_is_made(root: Path) -> None:
    told: list[tuple[str, bool]] = []
    own = SessionDir(lambda path: told.append((path, Path(path).exists())))

    assert told == [(own.path, False)]
    own.remove()


def test_the_lock_is_not_inherited(root: Path) -> None:
    own = SessionDir()
    assert not os.get_inheritable(own._lock)
    own.remove()


def test_the_next_session_sweeps_what_a_killed_one_left(root: Path) -> None:
    stale = make(root)
    own = SessionDir()

    assert not stale.exists()
    assert Path(own.path).exists()
    own.remove()


def test_a_living_session_is_left_alone(root: Path) -> None:
    own = SessionDir()
    os.utime(own.path, (0, 0))
    other = SessionDir()

    assert Path(own.path).exists()
    assert own.path != other.path
    own.remove()
    other.remove()


@pytest.mark.parametrize(
    ("lock", "age_s", "gone"), [(True, 0, False), (True, 30, True), (False, 30, False), (False, 120, True)]
)
def test_a_young_folder_may_be_about_to_be_locked(root: Path, lock: bool, age_s: float, gone: bool) -> None:
    path = make(root, lock=lock, age_s=age_s)
    sweep(root)

    assert path.exists() is not gone


def test_what_is_not_ours_is_left_alone(root: Path) -> None:
    open_to_others = make(root, "open", mode=0o755)
    someone_elses = root / "scalepool-99999-x"
    someone_elses.mkdir()
    a_file = root / f"scalepool-{os.getuid()}-file"
    a_file.touch()
    target = root / "target"
    target.mkdir(mode=0o700)
    link = root / f"scalepool-{os.getuid()}-link"
    link.symlink_to(target)

    sweep(root)

    assert all(path.exists() for path in (open_to_others, someone_elses, a_file, link, target))


def test_a_lock_that_is_a_link_is_not_followed(root: Path) -> None:
    path = make(root, lock=False)
    (path / "lock").symlink_to(root / "elsewhere")
    os.utime(path, (0, 0))
    sweep(root)

    assert path.exists()
    assert not (root / "elsewhere").exists()


def test_a_sweeper_that_looks_at_this_moment_does_not_stop_a_start(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    operations: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda fd, operation: (operations.append(operation), real(fd, operation)))
    SessionDir().remove()

    assert operations == [fcntl.LOCK_EX]


def test_a_root_with_a_long_path_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_dir, "_MAX_ROOT_BYTES", 10)
    own = SessionDir()

    assert Path(own.path).parent == Path("/tmp")
    assert stat.S_IMODE(Path(own.path).stat().st_mode) == 0o700
    own.remove()


def test_the_root_is_what_tempfile_says_or_would_say(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session_dir._temporary() == str(root)  # it is loaded, and told so
    monkeypatch.delitem(sys.modules, "tempfile")
    names = ("TMP", "TEMP", "TMPDIR")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for number, name in enumerate(names):  # the later wins
        folder = root / str(number)
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
        assert session_dir._temporary() == str(folder)
    monkeypatch.setenv("TMPDIR", str(root / "missing"))
    assert session_dir._temporary() == str(root / "1")


def test_what_is_unexpected_in_there_goes_too() -> None:
    own = SessionDir()
    (Path(own.path) / "folder").mkdir()
    (Path(own.path) / "folder" / "file").touch()
    own.remove()

    assert not Path(own.path).exists()


def test_a_root_that_cannot_be_listed_is_not_swept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: object) -> list[str]:
        raise PermissionError

    monkeypatch.setattr(session_dir.os, "listdir", refuse)

    sweep(root)
