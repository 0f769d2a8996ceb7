"""Whole scripts of a user's, run in every way in which Python runs a program."""

from __future__ import annotations

import shutil
import zipapp
from pathlib import Path

import pytest

from live.helpers import Script

pytestmark = pytest.mark.live

SCRIPTS = Path(__file__).parent / "main_scripts"


def run_as(folder: Path, name: str, way: str) -> tuple[int | None, str, str]:
    source = SCRIPTS / f"{name}.py"
    stdin = None
    if way == "script":
        shutil.copy(source, folder / "user.py")
        arguments = ["user.py"]
    elif way == "module":
        package = folder / "user_package"
        package.mkdir()
        (package / "__init__.py").touch()
        shutil.copy(source, package / "user.py")
        arguments = ["-m", "user_package.user"]
    elif way == "zipapp":
        (folder / "app").mkdir()
        shutil.copy(source, folder / "app" / "__main__.py")
        zipapp.create_archive(folder / "app", folder / "app.pyz")
        arguments = ["app.pyz"]
    elif way == "stdin":
        arguments, stdin = ["-"], source.read_text()
    else:
        arguments = ["-c", source.read_text()]
    driver = Script(folder, arguments)
    try:
        out, err = driver.finish(stdin)
    finally:
        driver.close()
    driver.assert_nothing_left()
    return driver.process.returncode, out, err


@pytest.mark.parametrize("name", ["classes", "enums", "functions"])
@pytest.mark.parametrize("way", ["script", "module", "zipapp", "stdin", "command"])
def test_it_works_in_every_way(tmp_path: Path, name: str, way: str) -> None:
    assert run_as(tmp_path, name, way) == (0, "end\n", "")
