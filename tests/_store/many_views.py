"""Child of test_mapping: holds more views than it may open files."""

from __future__ import annotations

import resource
import sys

from scalepool._store.files import SegmentRef
from scalepool._store.mapping import Views

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
views = Views()
ref = SegmentRef(*map(int, sys.argv[1:]))
held = [views.open(ref, "c") for _ in range(300)]
assert all(view[255] == 255 for view in held)
print(len(held), "views")
