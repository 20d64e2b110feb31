"""The settings of `scaler_worker_adapter_symphony`."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar

from pydantic import Field

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.settings import NoEffect, Short
from scaler_protocol.service.worker_settings import WorkerCountSetting


class SymphonyAdapterSettings(WebhookSettings):
    """Runs a scheduler's tasks on an IBM Spectrum Symphony cluster.

    Needs soamapi, the Python module that comes with Symphony.
    """

    command: ClassVar[str] = "scaler_worker_adapter_symphony"
    section: ClassVar[str] = "symphony_worker_adapter"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_worker_adapter_symphony tcp://scheduler:2345 --port 8080 --service-name ScalerService",
            "tasks as those of a Symphony application",
        ),
    )

    service_name: Annotated[str, Short("sn")] = Field(
        min_length=1, description="name of the application in Symphony whose service runs the tasks (required)"
    )
    base_concurrency: Annotated[WorkerCountSetting, Short("n")] = Field(
        default_factory=lambda: os.cpu_count() or 1,
        description="most tasks in Symphony at once, nested ones not counted; recommended: cores minus the deepest nesting",
    )
    max_workers: Annotated[
        int, Short("mw"), NoEffect("this adapter runs one agent, whose workers --base-concurrency counts")
    ] = Field(
        default=-1,
        ge=-1,
        description="accepted for older command lines, without effect: --base-concurrency is the number of workers",
    )
