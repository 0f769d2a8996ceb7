"""The command line: ``scalepool VERB``, also ``python -m scalepool VERB``. One module per verb.

It stands on libraries that the package itself does not need; they come with ``pip install 'scalepool[cli]'``.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_NEEDS = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 when all is well, 2 for a wrong use, 130 after Ctrl-C.

    Parameters
    ----------
    arguments
        What follows the program's name; default ``sys.argv``'s.
    """
    absent = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        print(  # noqa: T201 - this is the command line
            f"scalepool: the command line needs {' and '.join(absent)}: pip install 'scalepool[cli]'", file=sys.stderr
        )
        return 2
    from scalepool.cli.root import run

    return run(arguments)
