"""The settings of `scaler_worker_adapter_native`."""

from __future__ import annotations

from typing import ClassVar

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.setting_types import integer
from scaler_protocol.service.settings import setting


class NativeAdapterSettings(WebhookSettings):
    """Starts and stops workers on this machine when a scheduler asks for it.

    The scheduler reaches it at http://HOST:PORT, given to it as --adapter-webhook-url.
    """

    command: ClassVar[str] = "scaler_worker_adapter_native"
    section: ClassVar[str] = "native_worker_adapter"

    max_workers: int = setting(
        integer(at_least=-1), "mw", default=-1, description="most workers at one time; -1 for no limit"
    )
    workers_per_group: int = setting(
        integer(at_least=1),
        "wpg",
        default=1,
        description="workers that are started and stopped together, in one process",
    )
