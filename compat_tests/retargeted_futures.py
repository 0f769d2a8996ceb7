"""CPython's ``test.test_concurrent_futures``, its process-pool parts, on the drop-in ``concurrent.futures``.

One module up to 3.11, a package from 3.12 on; the package's parts are executed here one after the other, so their
relative imports of each other are already satisfied.
"""

from __future__ import annotations

import re

from harness import is_shipped, retarget, retargeted_runner

PARTS = ("util", "executor", "test_process_pool", "test_init", "test_wait", "test_as_completed", "test_shutdown")
PARTS += ("test_deadlock",)
PACKAGE = "test.test_concurrent_futures"
_RELATIVE_IMPORT = re.compile(r"^from \.\w+ import (?:\([^)]*\)|.*)$", re.MULTILINE)


def without_relative_imports(source: str) -> str:
    """Blank them, line by line: what they import is here already."""
    return _RELATIVE_IMPORT.sub(lambda match: "\n" * match[0].count("\n"), source)


if is_shipped(f"{PACKAGE}.util"):
    for part in PARTS:
        namespace = retarget(f"{PACKAGE}.{part}", globals(), without_relative_imports)
else:
    namespace = retarget(PACKAGE, globals())

namespace["assert_python_ok"] = retargeted_runner(namespace["assert_python_ok"])
