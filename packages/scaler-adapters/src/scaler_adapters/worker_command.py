"""The command line of an adapter's workers, on whatever machine they run."""

from __future__ import annotations

from collections.abc import Mapping

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.capabilities import format_capabilities
from scaler_protocol.service.worker_settings import WorkerSettings

WORKER_MODULE = "scaler_worker"


def worker_arguments(settings: WebhookSettings, count: int, capabilities: Mapping[str, int]) -> list[str]:
    """Return the arguments of `python -m scaler_worker` for `count` workers with these capabilities, without their names."""
    # A worker offers the basic capabilities and the requested ones.
    passed_on = set(WorkerSettings.model_fields) - {"per_worker_capabilities"}
    words = [str(settings.address), f"--num-of-workers={count}", *settings.to_command_line(passed_on)]
    if capabilities:
        words.append(f"--per-worker-capabilities={format_capabilities(capabilities)}")
    return words
