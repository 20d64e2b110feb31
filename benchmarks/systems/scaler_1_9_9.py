"""scaler 1.9.9, the last release before the project became opengris-scaler."""

from __future__ import annotations

from benchmarks.system import Cluster, System
from benchmarks.systems._scaler_interface import ScalerCluster


class Scaler199(System):
    name = "scaler199"
    title = "scaler 1.9.9"
    requirements = ("scaler==1.9.9",)
    distributions = ("scaler",)

    def load(self) -> None:
        import scaler  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return ScalerCluster(workers, map_takes_tuples=True, literals_are_nodes=True)


SYSTEM = Scaler199()
