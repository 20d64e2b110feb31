"""Finds the best settings of a model: `python examples/parameter_grid.py`. It needs numpy and scikit-learn, which ships the data.

Ridge regression on the features of 442 patients and their products predicts how diabetes progresses. Each pair of settings is one
task, which says how far off the model is on patients that it has not seen (five folds).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes

from scaler import Client, SchedulerClusterCombo

DEGREES = (1, 2)
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
FOLDS = 5

Floats = NDArray[np.float64]


def features(x: Floats, degree: int) -> Floats:
    """The columns, and for degree 2 all products of two of them."""
    scaled = x / x.std(axis=0)
    columns = [np.ones(len(x)), *scaled.T]
    if degree == 2:
        columns += [a * b for number, a in enumerate(scaled.T) for b in scaled.T[number:]]
    return np.column_stack(columns)


def error(degree: int, penalty: float, x: Floats, y: Floats) -> float:
    """The root mean square error on held-out patients."""
    table, squares = features(x, degree), []
    for fold in range(FOLDS):
        held_out = np.arange(len(y)) % FOLDS == fold
        seen = table[~held_out]
        weights = np.linalg.solve(seen.T @ seen + penalty * np.eye(seen.shape[1]), seen.T @ y[~held_out])
        squares.append((table[held_out] @ weights - y[held_out]) ** 2)
    return float(np.sqrt(np.concatenate(squares).mean()))


def main() -> None:
    x, y = load_diabetes(return_X_y=True)
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        futures = {(d, p): client.submit(error, d, p, x, y) for d, p in product(DEGREES, PENALTIES)}
        errors = client.gather(futures)
    for (degree, penalty), found in sorted(errors.items(), key=lambda item: item[1]):
        print(f"degree {degree}, penalty {penalty:6g}: {found:.2f}")


if __name__ == "__main__":
    main()
