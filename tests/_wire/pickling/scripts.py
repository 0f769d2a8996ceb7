"""Runs a piece of source as somebody's ``__main__``."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

PRELUDE = "from peer import Peer\nfrom scalepool._wire.payload import dumps, loads\n"


def run_main(source: str, directory: Path, **files: str) -> str:
    """Return what the script printed; fails when it fails. ``files`` are modules beside it."""
    for name, text in files.items():
        (directory / f"{name}.py").write_text(textwrap.dedent(text))
    script = directory / "user_script.py"
    script.write_text(PRELUDE + textwrap.dedent(source))
    path = os.pathsep.join([str(ROOT), str(HERE), str(directory), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done.stdout
