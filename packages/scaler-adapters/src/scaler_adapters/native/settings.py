"""The settings of `scaler_worker_adapter_native`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.settings import Short
from scaler_protocol.service.worker_settings import WorkerCountSetting


class NativeAdapterSettings(WebhookSettings):
    """Starts and stops workers on this machine when a scheduler asks for it.

    The scheduler reaches it at http://HOST:PORT, given to it as --adapter-webhook-url.
    """

    command: ClassVar[str] = "scaler_worker_adapter_native"
    section: ClassVar[str] = "native_worker_adapter"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_worker_adapter_native tcp://127.0.0.1:2345 --port 8080 --max-workers 16",
            "at most 16 workers on this machine, for a scheduler with --adapter-webhook-urls http://127.0.0.1:8080",
        ),
    )

    max_workers: Annotated[int, Short("mw")] = Field(
        default=-1, ge=-1, description="largest number of workers at one time; -1: no limit"
    )
    workers_per_group: Annotated[WorkerCountSetting, Short("wpg")] = Field(
        default=1, description="workers in one group, which is one process; they start and stop together"
    )
