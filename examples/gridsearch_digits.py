"""Search the best support vector machine for scikit-learn's handwritten digits, serially and with scalepool.

    python examples/gridsearch_digits.py [number of digits]

Needs scikit-learn. ``import scalepool`` registers the joblib backend; the search itself is unchanged.
"""

import sys
import time

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import scalepool  # noqa: F401 - registers the joblib backend

most = int(sys.argv[1]) if len(sys.argv) > 1 else 1797
digits = load_digits()
images, labels = digits.data[:most], digits.target[:most]
grid = {"C": [0.5, 1, 2, 5, 10, 20], "gamma": [0.0002, 0.0005, 0.001, 0.002]}

started = time.perf_counter()
serial = GridSearchCV(SVC(), grid, n_jobs=1).fit(images, labels)
serial_s = time.perf_counter() - started

started = time.perf_counter()
with joblib.parallel_config("scalepool"):
    parallel = GridSearchCV(SVC(), grid, n_jobs=-1).fit(images, labels)
parallel_s = time.perf_counter() - started

serial_scores, parallel_scores = (search.cv_results_["mean_test_score"] for search in (serial, parallel))
if not np.array_equal(serial_scores, parallel_scores) or serial.best_params_ != parallel.best_params_:
    sys.exit("the results differ")
fits = len(serial_scores) * parallel.n_splits_
print(f"{len(images)} digits, {fits} fits; best {parallel.best_params_} with accuracy {parallel.best_score_:.4f}")
print(f"serial {serial_s:.2f} s, scalepool {parallel_s:.2f} s, results equal")
