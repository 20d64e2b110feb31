"""A scheduler and a worker adapter that know each other, whichever adapter it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration import plain_http
from tests.integration.deployment import Deployment, Service
from tests.integration.functions import sleep_and_return

SPARE_TASKS = 3_000
SPARE_TASK_S = 0.1


def scheduler_with_adapter(deployment: Deployment, address: str, adapter_url: str, *flags: str) -> Service:
    """Start a scheduler without workers at `address`, which the adapter has been told, that asks it for some."""
    return deployment.scheduler(
        # Left to itself it takes the next port for it, which another server here may have.
        f"--object-storage-address={deployment.storage().address}",
        "--monitor-address=tcp://127.0.0.1:0",
        "--scaling-cool-down-seconds=3",
        "--adapter-webhook-url",
        adapter_url,
        *flags,
        address=address,
    )


@contextmanager
def work_to_spare(deployment: Deployment, scheduler: Service) -> Iterator[None]:
    """Let five minutes of work wait meanwhile.

    A worker is started for as much work as it takes time to start: on a slow machine, for less there would be fewer workers.
    """
    client = deployment.client(scheduler)
    tasks = [client.submit(sleep_and_return, SPARE_TASK_S) for _ in range(SPARE_TASKS)]
    try:
        yield
    finally:
        client.disconnect()
        del tasks


def url_of(adapter: Service) -> str:
    return str(adapter.addresses["webhook"]).replace("tcp", "http")


def groups_at(url: str) -> list[str]:
    return [group["worker_group_id"] for group in plain_http.get(url).json()["worker_groups"]]
