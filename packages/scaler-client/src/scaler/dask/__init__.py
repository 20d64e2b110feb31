"""Dask's collections on a Scaler cluster.

    import dask
    import scaler.dask

    with scaler.dask.scheduler(client):
        frame.groupby("key").value.mean().compute()

    dask.config.set(scheduler=scaler.dask.get(client))       # or for the whole program
    total.compute(scheduler=scaler.dask.get(client))         # or for one call

Arrays, bags, dataframes and delayed functions work as on Dask's own schedulers. Needs Dask (`scaler-client[dask]`) here and on
the workers.
"""

from scaler.dask.schedulers import get, scheduler

__all__ = ["get", "scheduler"]
