"""This repository's engine, from the environment of the runner."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks.system import Cluster, System
from benchmarks.systems._scaler_interface import ScalerClient, ScalerCluster


class _Cluster(ScalerCluster):
    """With what the older ones do not have."""

    def computes_dask(self) -> AbstractContextManager[object]:
        import scaler.dask

        return scaler.dask.scheduler(self._client)


class Scaler(System):
    name = "scaler"
    title = "Scaler (this)"
    requirements = None
    client_modules = ("scaler.client.operations",)
    clients_max = 100
    hosts_max = 16
    distributions = (
        "scaler-client",
        "scaler-scheduler",
        "scaler-worker",
        "pyzmq",
        "pycapnp",
        "cloudpickle",
        "dask",
        "pandas",
    )

    def load(self) -> None:
        import scaler  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return _Cluster(workers)

    def start_apart(self, workers: int) -> Cluster:
        return _Cluster(workers, apart=True)

    def connect(self, address: str) -> Cluster:
        return ScalerClient(address)


SYSTEM = Scaler()
