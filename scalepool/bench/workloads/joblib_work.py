"""joblib and scikit-learn on each backend."""

from __future__ import annotations

import contextlib
import logging
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from scalepool.bench.model import ANY_PEER, Metric, Target, Workload, on
from scalepool.bench.tasks import add_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scalepool.bench.model import Adapter
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_BACKENDS: Final[Mapping[str, str]] = {
    "scalepool": "scalepool",
    "joblib": "loky",
    "joblib-multiprocessing": "multiprocessing",
    "joblib-threading": "threading",
    "serial": "sequential",
    "dask": "dask",
    "ray": "ray",
}


@contextlib.contextmanager
def _backend(run: Run) -> Iterator[None]:
    """Make joblib use the candidate's backend with the run's workers."""
    import joblib

    import scalepool  # noqa: F401 - makes joblib know the backend

    with _service(run):
        number = 1 if run.candidate == "serial" else run.workers
        with joblib.parallel_config(backend=_BACKENDS[run.candidate], n_jobs=number):
            yield


def _service(run: Run) -> AbstractContextManager[Any]:
    """Start what a backend needs beside joblib."""
    if run.candidate == "dask":
        from scalepool.bench.drivers.dask_driver import DaskDriver

        return DaskDriver(run.workers)
    if run.candidate == "ray":
        from ray.util.joblib import register_ray

        from scalepool.bench.drivers.ray_driver import RayDriver

        register_ray()
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        return RayDriver(run.workers)
    return contextlib.nullcontext()


def _tiny(run: Run) -> None:
    from joblib import Parallel, delayed

    number = run.sizes["tasks"]
    with _backend(run):
        Parallel()(delayed(add_one)(item) for item in range(100))
        with run.timed(number) as section:
            results = Parallel()(delayed(add_one)(item) for item in range(number))
    run.expect(results, list(range(1, number + 1)), "results")
    run.record(rate=number / section.wall_s)


def _data(run: Run, columns: int) -> tuple[Any, Any]:
    from sklearn.datasets import make_classification

    found: tuple[Any, Any] = make_classification(
        n_samples=run.sizes["samples"], n_features=columns, n_informative=columns // 2, random_state=0
    )
    return found


def _random_forest(run: Run) -> None:
    from sklearn.ensemble import RandomForestClassifier

    inputs, labels = _data(run, 20)
    number = run.sizes["tasks"]
    with _backend(run):
        for name in ("first", "again"):
            with run.timed(number, main=name == "first") as section:
                forest = RandomForestClassifier(number, random_state=0).fit(inputs, labels)
            run.expect((len(forest.estimators_), forest.score(inputs, labels) > 0.99), (number, True), "trees, score")
            run.record(**{name: section.wall_s})


def _grid_search(columns: int) -> Adapter:
    def adapter(run: Run) -> None:
        from sklearn.linear_model import RidgeClassifier
        from sklearn.model_selection import GridSearchCV

        inputs, labels = _data(run, columns)
        fits, folds = run.sizes["tasks"], 5
        alphas = [10.0 ** (exponent / 10) for exponent in range(fits // folds)]
        search = GridSearchCV(RidgeClassifier(), {"alpha": alphas}, cv=folds, refit=False)
        with _backend(run):
            for name in ("first", "again"):
                with run.timed(fits, main=name == "first") as section:
                    search.fit(inputs, labels)
                scores = search.cv_results_["mean_test_score"]
                run.expect((len(scores), min(scores) > 0.6), (fits // folds, True), "number and size of the scores")
                run.record(**{name: section.wall_s})

    return adapter


_AHEAD = (Target("first", 0.9, against=(ANY_PEER,)), Target("again", 0.9, against=(ANY_PEER,)))
_FIT = (
    Metric("first", "s", "lower", "start of the workers included"),
    Metric("again", "s", "lower", "the same a second time"),
)

WORKLOADS = (
    Workload(
        name="joblib-tiny",
        what="Parallel()(delayed(f)(i) for i in range(10_000)) with trivial calls",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        adapters=on(tuple(_BACKENDS), _tiny),
        full={"tasks": 10_000},
        quick={"tasks": 10_000},
        targets=(Target("rate", 1.5, against=("joblib",)),),
    ),
    Workload(
        name="random-forest",
        what="RandomForestClassifier.fit, 100 trees",
        metrics=_FIT,
        adapters=on(tuple(_BACKENDS), _random_forest),
        full={"tasks": 100, "samples": 10_000},
        quick={"tasks": 100, "samples": 3000},
        targets=_AHEAD,
        needs=("sklearn",),
    ),
    Workload(
        name="grid-search",
        what="GridSearchCV, 20 fits on large data",
        metrics=_FIT,
        adapters=on(tuple(_BACKENDS), _grid_search(100)),
        full={"tasks": 20, "samples": 50_000},
        quick={"tasks": 20, "samples": 10_000},
        targets=_AHEAD,
        needs=("sklearn",),
    ),
    Workload(
        name="small-fits",
        what="GridSearchCV, 300 small fits",
        metrics=_FIT,
        adapters=on(tuple(_BACKENDS), _grid_search(20)),
        full={"tasks": 300, "samples": 2000},
        quick={"tasks": 100, "samples": 1000},
        targets=_AHEAD,
        needs=("sklearn",),
    ),
)
