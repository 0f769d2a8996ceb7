from __future__ import annotations

import pytest

from scalepool._runtime.travel.rules import File, Host, is_local, is_pruned, select, size_text, too_large

SAME = Host((".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so"), is_same=True)
OTHER = Host(SAME.suffixes, is_same=False)
LIMIT = 800


def chosen(*files: File, ignored: tuple[str, ...] = (), loaded: tuple[str, ...] = (), host: Host = SAME) -> list[str]:
    return [file.path for file in select(files, ignored, loaded, host, LIMIT).chosen]


def test_code_and_small_data_are_sent_in_order() -> None:
    files = [File("z.py", 10), File("a.py", 500), File("data/x.bin", 100), File("data/y.bin", 101)]
    selection = select(files, (), (), SAME, LIMIT)
    assert [file.path for file in selection.chosen] == ["a.py", "data/x.bin", "z.py"]
    assert selection.large == [File("data/y.bin", 101)]
    assert selection.size_bytes == 610


def test_what_git_ignores_stays_unless_the_program_has_loaded_it() -> None:
    files = [
        File("_version.py", 1),
        File("local.py", 1),
        File("build/x.py", 1),
        File("notes.txt", 1),
        File("buildx.py", 1),
    ]
    ignored = ("_version.py", "local.py", "build/", "notes.txt")
    selection = select(files, ignored, ["_version.py"], SAME, LIMIT)
    assert [file.path for file in selection.chosen] == ["_version.py", "buildx.py"]
    assert selection.left_out == {"local.py": "git ignores it", "build/x.py": "git ignores it"}


def test_what_is_compiled_goes_only_where_it_runs() -> None:
    ours, theirs = "_x.cpython-311-x86_64-linux-gnu.so", "_x.cpython-310-x86_64-linux-gnu.so"
    files = [
        File(ours, 1),
        File(theirs, 1),
        File("_y.abi3.so", 1),
        File("libz.so", 1),
        File("_w.cp311-win_amd64.pyd", 1),
    ]
    assert ours in chosen(*files)
    assert "_y.abi3.so" in chosen(*files)
    assert "libz.so" in chosen(*files)
    selection = select(files, (), (), SAME, LIMIT)
    assert theirs in selection.left_out
    assert chosen(*files, host=OTHER) == []
    assert "another platform" in select(files, (), (), OTHER, LIMIT).left_out[ours]


def test_leavings_of_tools_are_never_sent() -> None:
    assert chosen(File(".env", 1), File("a.pyc", 1), File("a.py~", 1), File("sub/.coverage", 1)) == []
    assert all(map(is_pruned, (".git", ".venv", "__pycache__", "node_modules", "x.egg-info")))
    assert not is_pruned("sub")


def test_a_package_that_is_too_large_is_refused_with_what_to_do() -> None:
    files = [File("a.py", 700), File("b.py", 101), File("c.txt", 3)]
    selection = select(files, (), (), SAME, LIMIT)
    text = too_large("pkg", selection, LIMIT)
    assert text is not None
    for part in ("'pkg' has 804 bytes", "800 bytes", "SCALEPOOL_CODE_LIMIT_BYTES", "a.py (700 bytes), b.py", "install"):
        assert part in text
    assert too_large("pkg", selection, 804) is None


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/home/me/project/pkg/__init__.py", True),
        ("/usr/lib/python3.11/json/__init__.py", False),
        ("/opt/venv/lib/python3.11/site-packages/numpy/__init__.py", False),
        ("/usr/lib/python3/dist-packages/yaml.py", False),
        ("/usr/lib/python3.11x/own.py", True),
    ],
)
def test_own_code_is_told_from_what_is_installed(path: str, local: bool) -> None:
    assert is_local(path, ["/usr/lib/python3.11", ""]) is local


def test_sizes_are_written_for_people() -> None:
    sizes = (0, 1023, 1024, 1536, 20 << 20, 3 << 30)
    assert [size_text(size) for size in sizes] == ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "20 MiB", "3 GiB"]
