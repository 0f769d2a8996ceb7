"""A program that opens a pool, lets every worker run something, says so, and then does nothing until stdin ends.

``python -m scalepool.bench.idle CANDIDATE WORKERS``: its memory is measured from outside.
"""

from __future__ import annotations

import sys

from scalepool.bench.drivers import load
from scalepool.bench.tasks import nap

__all__ = ["main"]


def main(candidate: str, workers: int) -> None:
    """Be that program."""
    with load(candidate)(workers) as driver:
        driver.each(nap, [(0.05,)] * (2 * workers))
        print("ready", flush=True)  # noqa: T201 - it is waited for
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
