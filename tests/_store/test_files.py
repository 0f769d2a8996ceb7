from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from scalepool._store import files
from scalepool._store.files import SegmentRef, anonymous_file, map_file, open_segment, write_buffers
from scalepool.errors import StoreError


def open_fds() -> int:
    return len(list(os.scandir("/proc/self/fd")))


@pytest.mark.parametrize("use_memfd", [True, False])
def test_a_file_has_no_path_and_is_not_inherited_by_exec(
    use_memfd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fd = anonymous_file("scalepool-test", 8192, use_memfd=use_memfd)
    try:
        assert os.fstat(fd).st_size == 8192
        assert os.fstat(fd).st_nlink == 0
        assert list(tmp_path.iterdir()) == []
        assert not os.get_inheritable(fd)
        assert ("memfd" in str(Path(f"/proc/self/fd/{fd}").readlink())) is use_memfd
    finally:
        os.close(fd)


def test_writes_go_on_where_the_system_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux writes at most 0x7ffff000 bytes per call; here every call writes at most 7."""
    fd = anonymous_file("scalepool-test", 4096)
    data = bytes(range(100))
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, chunk, offset: pwrite(fd, chunk[:7], offset))
    try:
        write_buffers(fd, [(64, memoryview(data))])
        assert os.pread(fd, 100, 64) == data
    finally:
        os.close(fd)


def refusing(number: int) -> Any:
    def memfd_create(name: str, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    return memfd_create


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_where_memfds_are_refused_a_file_without_a_name_will_do(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "memfd_create", refusing(number))
    fd = anonymous_file("scalepool-test", 4096)
    assert os.fstat(fd).st_size == 4096
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


def test_want_of_descriptors_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refusing(errno.EMFILE))
    with pytest.raises(StoreError, match="open files"):
        anonymous_file("scalepool-test", 4096)


def test_mapping_beyond_the_file_is_an_error_not_a_bus_error() -> None:
    fd = anonymous_file("scalepool-test", 4096)
    try:
        with pytest.raises(StoreError, match="8192 bytes"):
            map_file(fd, 8192, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(fd)


def test_a_file_of_an_impossible_size_is_a_store_error() -> None:
    before = open_fds()
    with pytest.raises(StoreError, match="of -1 bytes"):
        anonymous_file("scalepool-test", -1)
    assert open_fds() == before


def test_a_process_that_is_gone_is_named() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    with pytest.raises(StoreError, match=f"object 5 .* process {child.pid}, which held it, is gone"):
        open_segment(SegmentRef(5, child.pid, 3, 100))


def test_a_descriptor_that_is_closed_or_strange_is_named() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with pytest.raises(StoreError, match="no longer holds it"):
            open_segment(SegmentRef(5, child.pid, 999, 100))
        with pytest.raises(StoreError, match="descriptor 0"):  # a pipe
            open_segment(SegmentRef(5, child.pid, 0, 100))
        child.communicate(b"\n")


def test_a_process_that_may_not_be_looked_into_is_named() -> None:
    refused = PermissionError(13, "Permission denied")
    text = files._why_not_opened(SegmentRef(5, 1, 3, 100), refused)
    assert "process 1 does not let this process look into" in text
