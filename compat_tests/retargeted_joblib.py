"""joblib's own ``test_parallel.py`` with the backend "scalepool" where it says "loky".

Where it lists all process backends, ours takes their place. Scripts that it runs in fresh interpreters import
scalepool, which is what a user has to add as well.
"""

from __future__ import annotations

import joblib.parallel
from harness import TARGET, retarget
from skips import change

if TARGET == "scalepool":
    import scalepool
    from scalepool.joblib_backend import ScalepoolBackend

    # The tests compare registry entries with the classes of backends; `import scalepool` registers a factory.
    joblib.parallel.register_parallel_backend("scalepool", ScalepoolBackend)


def rewrite(source: str) -> str:
    """Name our backend, and nothing else; SKIPS.md lists what has to say something different."""
    if TARGET == "stdlib":
        return source
    source = change("joblib.test.test_parallel", source)
    for old, new in (
        ('PROCESS_BACKENDS = ["multiprocessing", "loky"]', 'PROCESS_BACKENDS = ["scalepool"]'),
        ("joblib._parallel_backends.LokyBackend", 'BACKENDS["scalepool"]'),
        ('"loky"', '"scalepool"'),
        # in scripts that are run in a fresh interpreter
        ("from joblib import Parallel, delayed\n", "from joblib import Parallel, delayed; import scalepool\n"),
        (
            "from joblib import Parallel, delayed, hash\n",
            "from joblib import Parallel, delayed, hash; import scalepool\n",
        ),
    ):
        source = source.replace(old, new)
    return source


namespace = retarget("joblib.test.test_parallel", globals(), rewrite)
namespace["__builtins__"] = __builtins__

if TARGET == "scalepool":
    namespace["LokyBackend"] = ScalepoolBackend

    class _Session:
        """Stands for loky's executor, which is shut down here so that fresh workers see a changed environment."""

        def shutdown(self) -> None:
            """End the session; the next call starts another."""
            scalepool.shutdown()

    namespace["get_reusable_executor"] = lambda *_args, **_options: _Session()
