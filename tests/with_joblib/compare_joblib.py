"""`python -m tests.with_joblib.compare_joblib [MODULE …]`: joblib's own tests of what runs in parallel.

Ours takes the place of the backend "loky" in them. Options and what is printed are those of `tests/with_dask/compare.py`.
"""

from __future__ import annotations

import sys

from tests.with_dask.compare import Suite, main

JOBLIB = Suite(
    "tests.with_joblib.in_place_of_loky",
    ["joblib.test.test_parallel", "joblib.test.test_config"],
    ("scaler", "loky"),
)

if __name__ == "__main__":
    sys.exit(main(JOBLIB))
