"""The keys of a cluster and their file: nobody else may read it, and what is wrong with it is said."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._net.keys import AGENT, DRIVER, HEAD, ClusterKeys, KeyPair, read_keys, write_keys
from scalepool.errors import KeyFileError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ClusterKeys.generate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    before = os.umask(0)
    write_keys(str(path), KEYS)
    os.umask(before)
    return path


def test_what_is_written_can_be_read_by_its_owner_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keys(str(path)) == KEYS


def test_a_role_gets_its_own_secret_only(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.json")
    write_keys(path, KEYS.only_for(AGENT))
    keys = read_keys(path)
    assert keys.pairs == {HEAD: KeyPair(KEYS.pairs[HEAD].public), AGENT: KEYS.pairs[AGENT]}
    assert KEYS.roles_by_key() == {KEYS.pairs[AGENT].public: AGENT, KEYS.pairs[DRIVER].public: DRIVER}


def test_secrets_do_not_show(path: Path) -> None:
    shown = f"{KEYS!r} {KEYS} {KEYS.pairs} {KEYS.pairs[HEAD]!s}"
    assert not any(pair.secret.decode() in shown for pair in KEYS.pairs.values())
    path.write_text(json.dumps({**json.loads(path.read_text()), "scalepool": 99}))
    with pytest.raises(KeyFileError) as caught:
        read_keys(str(path))
    assert not any(pair.secret.decode() in str(caught.value) for pair in KEYS.pairs.values())


def test_an_existing_file_is_never_replaced(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="refusing to replace"):
        write_keys(str(path), ClusterKeys.generate())
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="refusing to replace"):
        write_keys(str(link), KEYS)
    with pytest.raises(KeyFileError, match="cannot be written"):
        write_keys(str(tmp_path / "no" / "such" / "folder"), KEYS)
    assert read_keys(str(path)) == KEYS


def test_a_file_that_others_may_read_is_refused_with_the_remedy(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=f"mode 0640.*chmod 600 {path}"):
        read_keys(str(path))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, message in (
        ("pipe", "no regular file"),
        ("absent", "No such file"),
        (".", "(no regular file|directory)"),
    ):
        with pytest.raises(KeyFileError, match=message):
            read_keys(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match="belongs to user 12345"):
        read_keys(str(path))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_keys(str(path)) == KEYS


def changed(**fields: Any) -> str:
    pairs = {
        role: {"public": pair.public.decode(), "secret": pair.secret.decode()} for role, pair in KEYS.pairs.items()
    }
    return json.dumps({"scalepool": 1, "cluster": KEYS.cluster, **pairs, **fields})


OTHER = KeyPair.generate()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "3", "\udcff", changed()[:-30], changed(scalepool=2), changed(cluster=""),
        changed(cluster="x" * 65), changed(cluster="a b"), changed(head=None), changed(head={}), changed(agent="x"),
        changed(agent={"public": "short", "secret": ""}), changed(agent={"public": 3, "secret": 4}),
        changed(agent={"public": OTHER.public.decode(), "secret": KEYS.pairs[AGENT].secret.decode()}),
        changed(agent={"public": "ä" * 40, "secret": ""}), changed(agent={"public": "~" * 40, "secret": "~" * 40}),
    ],
)  # fmt: skip
def test_nonsense_is_no_key_file(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(KeyFileError, match="scalepool keys new"):
        read_keys(str(path))


def test_a_huge_file_is_not_read(path: Path) -> None:
    path.write_bytes(b" " * 70_000)
    with pytest.raises(KeyFileError, match="too large"):
        read_keys(str(path))
