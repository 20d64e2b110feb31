"""How an adapter's workers are called, whatever machine they run on."""

from __future__ import annotations

from collections.abc import Mapping

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.capabilities import format_capabilities
from scaler_protocol.service.worker_settings import WorkerSettings

WORKER_MODULE = "scaler_worker"


def worker_arguments(settings: WebhookSettings, count: int, capabilities: Mapping[str, int]) -> list[str]:
    """Arguments of `python -m scaler_worker` for `count` workers that offer these; their names are the caller's to add."""
    # The capabilities of each worker are made of the basic ones and those it was asked for.
    passed_on = set(WorkerSettings.model_fields) - {"per_worker_capabilities"}
    words = [str(settings.address), f"--num-of-workers={count}", *settings.to_command_line(passed_on)]
    if capabilities:
        words.append(f"--per-worker-capabilities={format_capabilities(capabilities)}")
    return words
