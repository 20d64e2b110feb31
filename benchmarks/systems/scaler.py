"""This repository's engine, from the environment of the runner."""

from __future__ import annotations

from benchmarks.system import Cluster, System
from benchmarks.systems._scaler_interface import ScalerClient, ScalerCluster


class Scaler(System):
    name = "scaler"
    title = "Scaler (this)"
    requirements = None
    client_modules = ("scaler.client.operations",)
    clients_max = 100
    hosts_max = 16
    distributions = ("scaler-client", "scaler-scheduler", "scaler-worker", "pyzmq", "pycapnp", "cloudpickle")

    def load(self) -> None:
        import scaler  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return ScalerCluster(workers)

    def start_apart(self, workers: int) -> Cluster:
        return ScalerCluster(workers, apart=True)

    def connect(self, address: str) -> Cluster:
        return ScalerClient(address)


SYSTEM = Scaler()
