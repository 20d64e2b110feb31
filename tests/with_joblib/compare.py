"""`python -m tests.with_joblib.compare [MODULE …]`: scikit-learn's own tests of what it computes in parallel.

They run in a `joblib.parallel_config` with our backend and with joblib's processes, two jobs each. Options and what is printed
are those of `tests/with_dask/compare.py`.
"""

from __future__ import annotations

import sys

from tests.with_dask.compare import Suite, main

SKLEARN = Suite(
    "tests.with_joblib.shipped",
    [
        "sklearn.model_selection",
        "sklearn.ensemble.tests.test_forest",
        "sklearn.ensemble.tests.test_bagging",
        "sklearn.ensemble.tests.test_iforest",
        "sklearn.ensemble.tests.test_stacking",
        "sklearn.ensemble.tests.test_voting",
        "sklearn.tests.test_multiclass",
        "sklearn.tests.test_multioutput",
    ],
    ("scaler", "loky", "threading"),
)

if __name__ == "__main__":
    sys.exit(main(SKLEARN))
