"""One group at most: an agent whose places are in Symphony. It is started with the adapter, and stopped when it is not needed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import ClassVar

from scaler_adapters.adapter import (
    AdapterInfo,
    MalformedRequestError,
    NoCapacityError,
    StartRequest,
    UnknownGroupError,
    WorkerAdapter,
    WorkerGroup,
)
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_adapters.symphony.soam import load_soamapi
from scaler_adapters.symphony.worker import SymphonyWorker
from scaler_protocol.capabilities import parse_capabilities
from scaler_protocol.service.errors import ConfigurationError


class SymphonyAdapter(WorkerAdapter):
    """Runs a scheduler's tasks in a service of IBM Spectrum Symphony."""

    settings_class: ClassVar = SymphonyAdapterSettings

    def __init__(self, settings: SymphonyAdapterSettings) -> None:
        fences = settings.fences_asked_for()
        if fences:
            raise ConfigurationError(
                f"{', '.join(fences)}: Symphony starts the processes that run tasks here; its application profile says "
                "what they may do"
            )
        if settings.preload:
            raise ConfigurationError(
                "--preload: Symphony starts the processes that run tasks here; what they are to load is up to its service"
            )
        self._settings = settings
        self._soamapi = load_soamapi()
        self._capabilities = parse_capabilities(settings.per_worker_capabilities)
        self._lock = threading.Lock()
        self._request_id = ""
        self._worker: SymphonyWorker | None = None
        self.start(StartRequest())

    def info(self) -> AdapterInfo:
        """Return that there is one group, and what its workers offer."""
        return AdapterInfo(1, self._settings.base_concurrency, self._capabilities)

    def list(self) -> Sequence[WorkerGroup]:
        """Return the agent, if it runs."""
        worker = self._worker
        return [self._group(worker)] if worker is not None and worker.is_running else []

    def start(self, request: StartRequest) -> WorkerGroup:
        """Start the agent. Raises NoCapacityError if it runs already."""
        missing = request.capabilities.keys() - self._capabilities.keys()
        if missing:
            raise MalformedRequestError(f"the service in Symphony does not offer {', '.join(sorted(missing))}")
        with self._lock:
            if self._worker is not None and self._worker.is_running:
                raise NoCapacityError("the one agent of this adapter runs already")
            self._request_id = request.request_id
            self._worker = SymphonyWorker(self._settings, self._soamapi, uuid.uuid4().hex[:12], self._capabilities)
            self._worker.start()
            return self._group(self._worker)

    def stop(self, group_id: str) -> None:
        """Stop the agent."""
        with self._lock:
            worker = self._worker
            if worker is None or worker.group_id != group_id or not worker.is_running:
                raise UnknownGroupError(f"there is no worker group {group_id!r}")
            worker.stop()
            self._worker = None

    def close(self) -> None:
        """Stop the agent, if it runs."""
        with self._lock:
            if self._worker is not None:
                self._worker.stop()

    def _group(self, worker: SymphonyWorker) -> WorkerGroup:
        return WorkerGroup(worker.group_id, worker.worker_names, worker.capabilities, request_id=self._request_id)
