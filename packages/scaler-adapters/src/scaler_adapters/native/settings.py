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

    max_workers: Annotated[int, Short("mw")] = Field(
        default=-1, ge=-1, description="largest number of workers at one time; -1: no limit"
    )
    workers_per_group: Annotated[WorkerCountSetting, Short("wpg")] = Field(
        default=1, description="workers in one group, which is one process; they start and stop together"
    )
