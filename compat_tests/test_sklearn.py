"""scikit-learn's own tests of what runs in parallel, under the joblib backend "scalepool" with two jobs."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from harness import TARGET

pytest.importorskip("sklearn", exc_type=ImportError)

import joblib
from sklearn import conftest as _sklearn_conftest

if TARGET == "scalepool":
    import scalepool  # noqa: F401 - registers the backend

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Module of scikit-learn -> which of its tests: those that fit in parallel, and few enough to take about a minute.
SELECTION = {
    "model_selection.tests.test_search": r"grid_search|random(ized)?_search|refit|_search_cv|n_jobs|pickle|fit_params",
    "model_selection.tests.test_validation": r"cross_val|permutation|learning_curve|validation_curve|n_jobs",
    "ensemble.tests.test_forest": r"parallel|pickle|importances|oob|backend|n_jobs|probability|warm_start",
    "ensemble.tests.test_voting": r"predict|parallel|weights|multilabel|transform",
    "ensemble.tests.test_bagging": r"parallel|oob|n_jobs|bootstrap",
    "inspection.tests.test_permutation_importance": r"",
}

#: Left out: what fails with joblib's own process backend as well, because it looks at warnings, prints or one-shot
#: iterators of the calling process, or expects the first fold's error of several; what needs other array libraries; one
#: test that alone takes as long as the rest.
LEFT_OUT = re.compile(
    r"verbose_3|cv_splits_consistency|invalid_scoring_param|score_score_func|cross_val_predict$|failing_scorer"
    r"|learning_curve_(exploit|params)|decision_function_shape|array_api|parallel_train"
)

for _module, _pattern in SELECTION.items():
    _tests = importlib.import_module(f"sklearn.{_module}")
    for _name, _value in vars(_tests).items():
        if _name.startswith("test_") and callable(_value) and re.search(_pattern, _name) and not LEFT_OUT.search(_name):
            globals()[f"{_module.rpartition('.')[2]}__{_name[5:]}"] = _value

# scikit-learn's fixtures; its own hook would also skip by platform and add doctests
globals().update(
    {name: value for name, value in vars(_sklearn_conftest).items() if "fixture" in type(value).__name__.lower()}
)


def pytest_generate_tests(metafunc: Any) -> None:
    """Give the one random seed that scikit-learn's own runs use by default."""
    if "global_random_seed" in metafunc.fixturenames:
        metafunc.parametrize("global_random_seed", [42], scope="session")


@pytest.fixture(autouse=True)
def _parallel() -> Iterator[None]:
    with joblib.parallel_config(backend="scalepool" if TARGET == "scalepool" else "loky", n_jobs=2):
        yield
