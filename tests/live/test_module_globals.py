"""Globals that the program changed: what tasks see of them, by where they and the functions are defined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.helpers import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

SETTINGS = """
LEVEL = 1
TABLE = {"a": 1}
def level(): return LEVEL
def table(): return TABLE
def set_level(value):
    global LEVEL
    LEVEL = value
"""


def test_globals_of_the_program_itself_are_sent_anew(tmp_path: Path) -> None:
    source = """
    from scalepool.multiprocessing import Pool
    LEVEL, TABLE = 1, {"a": 1}
    def helper(): return LEVEL
    def both(_): return helper(), TABLE
    pool = Pool(2)
    def seen(): return [dict(pairs) | {"level": level} for level, pairs in pool.map(both, range(8), 1)]
    assert seen() == [{"a": 1, "level": 1}] * 8
    LEVEL = 2
    TABLE["b"] = 2
    assert seen() == [{"a": 1, "b": 2, "level": 2}] * 8
    TABLE = {}
    def helper(): return "patched"
    assert seen() == [{"level": "patched"}] * 8
    pool.terminate()
    print("end")
    """
    assert run(tmp_path, source) == "end\n"


def test_globals_of_a_module_are_those_that_the_worker_imported(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(SETTINGS)
    source = """
    import settings
    from scalepool.multiprocessing import Pool
    with Pool(2) as pool:
        assert [pool.apply(settings.level), pool.apply(settings.table)] == [1, {"a": 1}]
        settings.LEVEL = 2
        settings.TABLE["b"] = 2
        assert [pool.apply(settings.level), pool.apply(settings.table)] == [1, {"a": 1}]
    with Pool(2) as pool:
        assert [pool.apply(settings.level), pool.apply(settings.table)] == [1, {"a": 1}]
    with Pool(2, settings.set_level, (settings.LEVEL,)) as pool:  # the remedy
        assert pool.map(lambda _: settings.level(), range(8), 1) == [2] * 8
    with Pool(2) as pool:  # or this
        assert pool.apply(lambda level: (settings.set_level(level), settings.level())[1], (settings.LEVEL,)) == 2
    print("end")
    """
    assert run(tmp_path, source) == "end\n"
