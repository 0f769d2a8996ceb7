from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from _proc.helpers import PATH
from scalepool._proc.context import ProcessContext
from scalepool.errors import ProtocolError


def captured() -> ProcessContext:
    return ProcessContext.capture()._replace(authkey=b"\x00secret\xff")


def test_capture_tells_this_process() -> None:
    context = ProcessContext.capture()

    assert context.cwd == str(Path.cwd())
    assert list(context.sys_path) == sys.path
    assert dict(context.environ) == dict(os.environ)
    assert list(context.argv) == sys.argv
    assert context.authkey == bytes(multiprocessing.current_process().authkey)
    mask = os.umask(0o027)
    try:
        assert ProcessContext.capture().umask == 0o027
    finally:
        os.umask(mask)


def test_encode_and_decode_are_inverse_even_for_undecodable_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEPOOL_TEST", os.fsdecode(b"\xff\xfe=\n"))
    context = captured()

    assert ProcessContext.decode(context.encode()) == context
    without = context._replace(authkey=None, main_path=None)
    assert ProcessContext.decode(without.encode()) == without


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[1,2,3,4,5,6,7]", b"\xff", b'["",[],[["a"]],[],null,null,0]'])
def test_decode_refuses_what_it_did_not_write(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ProcessContext.decode(data)


def test_secrets_do_not_show_in_the_repr() -> None:
    context = captured()._replace(environ=(("TOKEN", "hunter2"),))

    assert "secret" not in repr(context)
    assert "hunter2" not in repr(context)


APPLY = """
import json, os, sys
from scalepool._proc.context import ProcessContext
context = ProcessContext.decode(sys.stdin.buffer.read())
context.apply({"OMP_NUM_THREADS": "1"})
authkey = None
if "multiprocessing.process" in sys.modules:
    authkey = sys.modules["multiprocessing.process"].current_process().authkey.decode("latin-1")
seen = [os.getcwd(), sys.path, dict(os.environ), sys.argv, authkey, os.umask(0)]
sys.stdout.write(json.dumps(seen))
"""


def applied(context: ProcessContext) -> list[object]:
    run = subprocess.run(
        [sys.executable, "-c", APPLY],
        input=context.encode(),
        capture_output=True,
        env={"PYTHONPATH": PATH[0], "GONE": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        cwd="/",
    )
    seen = json.loads(run.stdout)
    assert isinstance(seen, list)
    return seen


def test_apply_makes_another_process_look_the_same(tmp_path: Path) -> None:
    context = ProcessContext(
        cwd=str(tmp_path),
        sys_path=("/one", *sys.path),
        environ=(("KEPT", "é"), ("OMP_NUM_THREADS", "64")),
        argv=("prog", "--flag"),
        main_path=None,
        authkey=b"key",
        umask=0o077,
    )

    # The environment is the recorded one, except for the limits that the zygote was started with.
    wanted_environ = {"KEPT": "é", "OMP_NUM_THREADS": "1"}
    assert applied(context) == [str(tmp_path), ["/one", *sys.path], wanted_environ, ["prog", "--flag"], "key", 0o077]


def test_apply_survives_a_directory_that_is_gone_and_leaves_a_process_its_own_key(tmp_path: Path) -> None:
    context = captured()._replace(cwd=str(tmp_path / "gone"), authkey=None)

    cwd, *_, authkey, _umask = applied(context)

    assert cwd == "/"
    assert len(str(authkey)) == 32


def test_capture_in_a_removed_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert ProcessContext.capture().cwd == ""


def test_on_another_host_what_describes_a_host_stays_as_it_is_there() -> None:
    recorded = ProcessContext(
        cwd="/work",
        sys_path=("/work", "/usr/lib/python3"),
        environ=(("HOME", "/home/me"), ("MODE", "fast"), ("PATH", "/mine"), ("SLURM_JOB_ID", "1")),
        argv=("x",),
        main_path=None,
        authkey=None,
        umask=0o22,
    )
    there = recorded.on_host({"HOME": "/root", "PATH": "/bin", "MODE": "slow", "OTHER": "1"}, ["", "/opt", "/work"])
    assert dict(there.environ) == {"HOME": "/root", "PATH": "/bin", "MODE": "fast"}
    assert there.sys_path == ("/work", "/usr/lib/python3", "/opt")
    assert there._replace(environ=recorded.environ, sys_path=recorded.sys_path) == recorded
