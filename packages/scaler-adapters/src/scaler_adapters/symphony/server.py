"""The Symphony worker adapter as a service, as far as it goes in this version: it checks that Symphony is reachable."""

from __future__ import annotations

import importlib.util

from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_protocol.service.errors import ServiceError


def run(settings: SymphonyAdapterSettings) -> int:
    """Ends with a `ServiceError` that says what is missing."""
    if importlib.util.find_spec("soamapi") is None:
        raise ServiceError(
            "the Python module soamapi is not installed; it comes with IBM Spectrum Symphony, not from a package "
            "index, and exists for some Python versions only"
        )
    raise ServiceError(f"this version cannot run tasks in Symphony yet (service {settings.service_name!r})")
