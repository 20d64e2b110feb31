"""Feeds an hour of monitor messages of a busy cluster into the view model of `scaler_ui` and watches its memory."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "packages" / "scaler-ui" / "tests"))

from synthetic_cluster import (  # type: ignore[import-not-found]  # beside the tests of scaler-ui
    UNIX,
    failures,
    finished_tasks,
    log,
    snapshot,
)

from scaler_ui.model import ClusterModel, figures

SECONDS = 3_600
TASKS_PER_SECOND = 2_000
GROWTH_BYTES_MAX = 24 * 1024**2


def main() -> int:
    """Print the resident memory every five simulated minutes; return 0 where it stays flat once everything is full."""
    model = ClusterModel()
    process = psutil.Process()
    sizes: list[int] = []
    for second in range(1, SECONDS + 1):
        model.accept(snapshot(second, agents=8, success=TASKS_PER_SECOND * second), float(second))
        first = 1 + TASKS_PER_SECOND * second
        model.accept(
            finished_tasks(TASKS_PER_SECOND, agents=8, seed=second, first_number=first, began=UNIX + second), second
        )
        model.accept(failures(1 + 5 * second, 5), second)
        model.accept(log(1 + second, (20, f"line {second}")), second)
        figures.overview(model, 0.1, 5.0)
        if second % 300 == 0:
            sizes.append(process.memory_info().rss)
            print(f"{second // 60:3d} min  {sizes[-1] / 1024**2:.1f} MiB", flush=True)
    growth = max(sizes[3:]) - sizes[2]
    print(f"growth after the first 15 minutes: {growth / 1024**2:.1f} MiB")
    return 0 if growth < GROWTH_BYTES_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
