"""Has parfun and pargraph run everything on Scaler: `python on_scaler.py MODULE` runs a program, `-p on_scaler` pytest.

parfun knows Scaler. Its examples name Python's own processes as their backend, and get a local cluster instead. pargraph knows
no backend by name: it takes whatever has a method `submit`, by default one of loky's executors, and gets a `Client` instead.
With pytest only the second is changed: parfun's tests name all their backends.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import runpy
import sys
from typing import Any

from scaler import Client, SchedulerClusterCombo

WORKERS = 2


@functools.cache
def _client(*_: object, **__: object) -> Client:
    """Return a client of a cluster that ends with this process."""
    cluster = SchedulerClusterCombo(n_workers=WORKERS)
    atexit.register(cluster.shutdown)
    client = Client(cluster.get_address())
    atexit.register(client.disconnect)
    return client


def _replace_loky() -> None:
    if importlib.util.find_spec("loky") is not None:
        loky: Any = importlib.import_module("loky")
        loky.get_reusable_executor = lambda *_, **__: _client()


def _replace_processes() -> None:
    if importlib.util.find_spec("parfun") is not None:
        backends = importlib.import_module("parfun.backend.scaler")
        registry = importlib.import_module("parfun.entry_point").BACKEND_REGISTRY

        def make(**_: Any) -> Any:
            return backends.ScalerLocalBackend(n_workers=WORKERS, logging_level="WARNING")

        registry["local_multiprocessing"] = make


# pytest imports its plugins first, so that tests which import the name from loky get this one.
_replace_loky()

if __name__ == "__main__":
    _replace_processes()
    name, *sys.argv[1:] = sys.argv[1:]
    sys.argv[0] = name
    runpy.run_module(name, run_name="__main__", alter_sys=True)
