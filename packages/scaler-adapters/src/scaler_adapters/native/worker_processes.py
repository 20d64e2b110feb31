"""Groups of one worker, each a `scaler_cluster` process on this machine."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping, Sequence

from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.webhook import AdapterInfo, NoCapacityError, ProvisioningError, UnknownGroupError, WorkerGroup
from scaler_protocol.capabilities import format_capabilities, parse_capabilities
from scaler_protocol.service.child import ChildService, describe_exit
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

START_SECONDS = 60
"""How long a worker may take until it works for its scheduler."""

STOP_SECONDS = 10
"""How long a worker may take to finish after SIGTERM."""

WORKER_MODULE = "scaler_worker"


class WorkerProcesses:
    """Starts, stops and remembers the workers of this machine. A `WorkerGroupProvider`."""

    def __init__(self, settings: NativeAdapterSettings) -> None:
        self._max_workers = settings.max_workers
        self._base_capabilities = parse_capabilities(settings.per_worker_capabilities)
        # The capabilities of each worker are made of these and those it was asked for.
        passed_on = set(WorkerSettings.model_fields) - {"per_worker_capabilities"}
        self._arguments = [str(settings.address), "--num-of-workers=1", *settings.to_command_line(passed_on)]
        self._lock = threading.Lock()
        self._running: dict[str, tuple[WorkerGroup, ChildService]] = {}
        self._starting = 0

    def info(self) -> AdapterInfo:
        """One worker a group, so as many groups as workers."""
        return AdapterInfo(self._max_workers, 1, self._base_capabilities)

    def groups(self) -> Sequence[WorkerGroup]:
        """The groups whose process lives; those that ended by themselves are forgotten here."""
        with self._lock:
            self._forget_ended()
            return [group for group, _ in self._running.values()]

    def start_group(self, capabilities: Mapping[str, int]) -> WorkerGroup:
        """Starts one worker and waits until it works."""
        with self._lock:
            self._forget_ended()
            if 0 <= self._max_workers <= len(self._running) + self._starting:
                raise NoCapacityError(f"all {self._max_workers} workers of this adapter exist already")
            self._starting += 1
        try:
            return self._start(WorkerGroup(uuid.uuid4().hex, (), {**self._base_capabilities, **capabilities}))
        finally:
            with self._lock:
                self._starting -= 1

    def _start(self, wish: WorkerGroup) -> WorkerGroup:
        name = f"native-{wish.group_id[:12]}"
        arguments = [*self._arguments, f"--worker-names={name}"]
        if wish.capabilities:
            arguments.append(f"--per-worker-capabilities={format_capabilities(wish.capabilities)}")
        child = ChildService.start(WORKER_MODULE, arguments)
        try:
            child.wait_ready(START_SECONDS)
        except ServiceError as error:
            child.terminate(STOP_SECONDS)
            raise ProvisioningError(f"the worker did not start: {error}") from None
        group = WorkerGroup(wish.group_id, (name,), wish.capabilities)
        with self._lock:
            self._running[group.group_id] = (group, child)
        return group

    def stop_group(self, group_id: str) -> None:
        """Stops the worker's process in stages."""
        with self._lock:
            self._forget_ended()
            found = self._running.pop(group_id, None)
        if found is None:
            raise UnknownGroupError(f"there is no worker group {group_id!r}")
        found[1].terminate(STOP_SECONDS)

    def stop_all(self) -> None:
        """Asks all workers to stop at the same time, then waits for each."""
        with self._lock:
            children = [child for _, child in self._running.values()]
            self._running.clear()
        threads = [threading.Thread(target=child.terminate, args=(STOP_SECONDS,)) for child in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _forget_ended(self) -> None:
        for group_id, (group, child) in list(self._running.items()):
            if not child.is_running:
                logger.warning("%s ended by itself: %s", group.worker_ids[0], describe_exit(child.process.returncode))
                del self._running[group_id]
