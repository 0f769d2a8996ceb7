"""``multiprocessing.dummy.connection``: the standard library's own."""

from __future__ import annotations

from multiprocessing.dummy.connection import *  # noqa: F403
from multiprocessing.dummy.connection import __all__  # noqa: F401
