"""The native worker adapter as a service: the webhook over processes of this machine."""

from __future__ import annotations

from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.native.worker_processes import WorkerProcesses
from scaler_adapters.webhook import create_application
from scaler_protocol.service.web import run_application


def run(settings: NativeAdapterSettings) -> int:
    """Serves the webhook until it is asked to stop; its workers are stopped before it ends."""
    return run_application(
        create_application(WorkerProcesses(settings)),
        settings.host,
        settings.port,
        role="webhook",
        event_loop=settings.event_loop,
    )
