"""joblib's own tests of `Parallel`, with the backend "scalepool" as the one under test and as the default.

A test that is parametrised by backends runs for those parameter sets in which ours takes part.
"""

from __future__ import annotations

import pytest
from harness import TARGET, is_shipped

pytest.importorskip("joblib")
if not is_shipped("joblib.test.test_parallel"):
    pytest.skip("this joblib ships no tests", allow_module_level=True)

import joblib.parallel
import retargeted_joblib as original

BACKEND = "scalepool" if TARGET == "scalepool" else "loky"
BACKEND_PARAMETERS = ("backend", "parent_backend", "child_backend", "outer_backend", "inner_backend")

globals().update({name: value for name, value in vars(original).items() if name.startswith("test_")})


def is_wanted(item: pytest.Item) -> bool:
    """Tell whether our backend takes part in a test, by name, by instance, or as the default."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    backends = [parameters[name] for name in BACKEND_PARAMETERS if name in parameters]
    return not backends or any(_is_ours(backend) for backend in backends)


def _is_ours(backend: object) -> bool:
    if backend is None or isinstance(backend, joblib.parallel.BACKENDS[BACKEND]):
        return True
    return isinstance(backend, str) and (backend in {BACKEND, "back_compat_backend"} or backend.startswith("test_"))


@pytest.fixture(autouse=True)
def _is_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib.parallel, "DEFAULT_BACKEND", BACKEND)
