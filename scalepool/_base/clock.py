"""The clock, as a value that can be passed in.

Decisions never read a clock: they are told ``now``. The shells that must read one take a `Clock`, so a test can hand
them a time that moves when told.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "monotonic_s"]

#: Returns seconds since some fixed moment; never runs backwards.
Clock = Callable[[], float]

#: The real clock of this host; the same for all of its processes, so times may be compared between them.
monotonic_s: Clock = time.monotonic
