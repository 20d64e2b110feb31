"""A scheduler and a worker adapter that know each other, whichever adapter it is."""

from __future__ import annotations

import httpx

from tests.integration.deployment import Deployment, Service


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


def url_of(adapter: Service) -> str:
    return str(adapter.addresses["webhook"]).replace("tcp", "http")


def groups_at(url: str) -> list[str]:
    return [group["worker_group_id"] for group in httpx.get(url, timeout=10).json()["worker_groups"]]
