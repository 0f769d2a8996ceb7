"""scikit-learn gets exactly the serial results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from joblib import parallel_config

sklearn = pytest.importorskip("sklearn")

from sklearn.datasets import make_classification  # noqa: E402
from sklearn.ensemble import RandomForestClassifier, VotingClassifier  # noqa: E402
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.tree import DecisionTreeClassifier  # noqa: E402

pytestmark = pytest.mark.live

X, Y = make_classification(n_samples=400, n_features=8, random_state=0)


def grid_search(n_jobs: int) -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    found = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0, 10.0]}, cv=3, n_jobs=n_jobs).fit(X, Y)
    return [found.cv_results_["mean_test_score"], found.best_estimator_.predict_proba(X)]


def forest(n_jobs: int) -> Any:
    model = RandomForestClassifier(20, random_state=0, n_jobs=n_jobs, oob_score=True).fit(X, Y)
    return [model.predict_proba(X), model.feature_importances_, [model.oob_score_]]


def nested_search(n_jobs: int) -> Any:
    model = GridSearchCV(RandomForestClassifier(5, random_state=0, n_jobs=n_jobs), {"max_depth": [2, 3]}, n_jobs=n_jobs)
    return [cross_val_score(model, X, Y, cv=2, n_jobs=n_jobs)]


def scores(n_jobs: int) -> Any:
    return [cross_val_score(DecisionTreeClassifier(random_state=0), X, Y, cv=5, n_jobs=n_jobs)]


def importance(n_jobs: int) -> Any:
    model = DecisionTreeClassifier(random_state=0).fit(X, Y)
    return [permutation_importance(model, X, Y, n_repeats=3, random_state=0, n_jobs=n_jobs).importances]


def voting(n_jobs: int) -> Any:
    model = VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", n_jobs=n_jobs)
    return [model.fit(X, Y).predict_proba(X)]


@pytest.mark.parametrize("job", [grid_search, forest, nested_search, scores, importance, voting])
@pytest.mark.parametrize("max_nbytes", [1000, None])
def test_results_are_the_serial_ones(job: Any, max_nbytes: int | None) -> None:
    serial = job(1)
    with parallel_config(backend="scalepool", max_nbytes=max_nbytes):
        parallel = job(2)
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)
