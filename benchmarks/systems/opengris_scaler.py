"""opengris-scaler, the newest release on the package index."""

from __future__ import annotations

from benchmarks.system import Cluster, System
from benchmarks.systems._scaler_interface import ScalerCluster


class OpengrisScaler(System):
    name = "opengris"
    title = "opengris-scaler"
    requirements = ("opengris-scaler",)
    distributions = ("opengris-scaler",)

    def load(self) -> None:
        import scaler  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return ScalerCluster(workers, literals_are_nodes=True)


SYSTEM = OpengrisScaler()
