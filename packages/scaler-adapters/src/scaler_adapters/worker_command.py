"""The command line of an adapter's workers, on whatever machine they run."""

from __future__ import annotations

from collections.abc import Mapping

from scaler_adapters.host_size import HostSize, offered_text
from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.capabilities import format_capabilities
from scaler_protocol.service.worker_settings import WorkerSettings

WORKER_MODULE = "scaler_worker"

ANY_SIZE = HostSize()


def worker_arguments(
    settings: WebhookSettings, count: int, capabilities: Mapping[str, int], size: HostSize = ANY_SIZE
) -> list[str]:
    """Return the arguments of `python -m scaler_worker` for `count` workers with these capabilities, without their names.

    `size`: what their host was made to have, which they offer.
    """
    # A worker offers the basic capabilities and the requested ones.
    passed_on = set(WorkerSettings.model_fields) - {"per_worker_capabilities"}
    offered = offered_text(settings.resources, size) if size != ANY_SIZE else ""
    if offered:
        passed_on.remove("resources")
    words = [str(settings.address), f"--num-of-workers={count}", *settings.to_command_line(passed_on)]
    if offered:
        words.append(f"--resources={offered}")
    if capabilities:
        words.append(f"--per-worker-capabilities={format_capabilities(capabilities)}")
    return words
