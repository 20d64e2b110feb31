"""How a program has Dask compute on a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

try:
    import dask
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"scaler.dask: {error.name} is not installed here: pip install 'scaler-client[dask]'", name=error.name
    ) from None

from scaler.client.client import Client
from scaler.dask.computation import Computation

if TYPE_CHECKING:
    from typing import Unpack

    from scaler.client.signatures import TaskOptions


def get(client: Client, **options: Unpack[TaskOptions]) -> Computation:
    """Return a Dask scheduler function, `get(graph, keys)`, that computes on the cluster of `client`.

    It is what Dask takes as `scheduler=`. Results come back to this process; what tasks pass on to each other does not.
    `options`: for all tasks, see `Client.with_options`; a client with options has its own.
    """
    return Computation(client.with_options(**options) if options else client)


def scheduler(client: Client, **options: Unpack[TaskOptions]) -> AbstractContextManager[object]:
    """Return a context in which Dask computes on the cluster of `client`, in all threads: `with scaler.dask.scheduler(client):`.

    Data is shuffled by tasks there, unless Dask's configuration names another method: by default Dask would write it to a disk,
    which workers on several hosts do not share. `options`: as for `get`.
    """
    method = dask.config.get("dataframe.shuffle.method", None) or "tasks"
    context: AbstractContextManager[object] = dask.config.set(
        {"scheduler": get(client, **options), "dataframe.shuffle.method": method}
    )
    return context
