"""Groups of workers, each a `scaler_cluster` process on this machine.

The environment of a worker process names its group and adapter. So an adapter that was killed and restarted at the same
address finds its processes, and nothing has to be stored.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import psutil

from scaler_adapters.adapter import (
    AdapterInfo,
    NoCapacityError,
    ProvisioningError,
    StartRequest,
    UnknownGroupError,
    WorkerAdapter,
    WorkerGroup,
)
from scaler_adapters.identity import GROUP_VARIABLE, adapter_name
from scaler_adapters.native.group_parts import GroupParts
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.native.worker_process import WorkerProcess
from scaler_adapters.room import Room
from scaler_adapters.worker_command import WORKER_MODULE, worker_arguments
from scaler_protocol.capabilities import parse_capabilities
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.security_settings import peer_security

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long workers may take to register at their scheduler, without their preload."""

PRELOAD_SECONDS = 600.0
"""How much longer they may take with a preload."""

STOP_SECONDS = 15.0
"""How long workers may take to end after SIGTERM. They give running tasks a few seconds themselves."""


@dataclass(frozen=True, slots=True)
class _Running:
    group: WorkerGroup
    process: WorkerProcess
    devices: tuple[str, ...]
    """Its GPUs."""


class NativeAdapter(WorkerAdapter):
    """Starts, stops and lists the workers of this machine."""

    settings_class: ClassVar = NativeAdapterSettings

    def __init__(self, settings: NativeAdapterSettings) -> None:
        self._settings = settings
        # Its workers read the keys on this machine: what is wrong with them shows now, and not with the first workers.
        peer_security(settings, "worker")
        self._base_capabilities = parse_capabilities(settings.per_worker_capabilities)
        self._name = adapter_name(settings)
        self._room = Room(settings.max_workers, settings.workers_per_group)
        self._lock = threading.Lock()
        self._parts = GroupParts(settings)
        self._unready: dict[WorkerProcess, tuple[str, ...]] = {}
        """Those that are being started, with their GPUs."""
        self._running: dict[str, _Running] = {}
        for found in self._find():
            self._running[found.group.group_id] = found
            logger.info("found group %s of an earlier run: %s", found.group.group_id, ", ".join(found.group.worker_ids))

    def info(self) -> AdapterInfo:
        """Return the limit, the size of a group, and the capabilities that every worker has."""
        return AdapterInfo(self._room.groups_max, self._room.workers_per_group, self._base_capabilities)

    def list(self) -> Sequence[WorkerGroup]:
        """Return the groups whose process is alive. Groups that have ended by themselves are forgotten."""
        with self._lock:
            self._forget_ended()
            return [running.group for running in self._running.values()]

    def start(self, request: StartRequest) -> WorkerGroup:
        """Start one process and wait until it is ready."""
        group_id = uuid.uuid4().hex[:12]
        with self._room.for_group(group_id, lambda: [group.group_id for group in self.list()]):
            return self._start(group_id, request)

    def _start(self, group_id: str, request: StartRequest) -> WorkerGroup:
        capabilities = {**self._base_capabilities, **request.capabilities}
        names = tuple(f"native-{group_id}-{number}" for number in range(self._room.workers_per_group))
        group = WorkerGroup(group_id, names, capabilities, request_id=request.request_id)
        try:
            # Under the lock, so that `close` either finds the process or prevents its start.
            with self._lock:
                if self._room.closed:
                    raise NoCapacityError("this adapter is stopping")
                self._forget_ended()
                # All groups are on this machine: each offers its own part.
                settings = self._parts.settings_for(self._devices_in_use())
                arguments = worker_arguments(settings, len(names), capabilities)
                arguments.append(f"--worker-names={','.join(names)}")
                group_devices = tuple(settings.gpu_devices)
                process = WorkerProcess.start(
                    WORKER_MODULE, arguments, {GROUP_VARIABLE: self._described(group, group_devices)}
                )
                self._unready[process] = group_devices
            try:
                process.wait_ready(START_SECONDS + (PRELOAD_SECONDS if self._settings.preload else 0.0))
            finally:
                with self._lock:
                    self._unready.pop(process, None)
                    if process.is_running:
                        self._running[group_id] = _Running(group, process, group_devices)
        except (ServiceError, OSError) as error:
            raise ProvisioningError(f"the workers did not start: {error}") from None
        return group

    def stop(self, group_id: str) -> None:
        """Stop the group's process in stages."""
        with self._lock:
            self._forget_ended()
            found = self._running.get(group_id)
        if found is None:
            raise UnknownGroupError(f"there is no worker group {group_id!r}")
        found.process.terminate(STOP_SECONDS)
        with self._lock:
            self._running.pop(group_id, None)

    def close(self) -> None:
        """Ask all workers to stop at the same time, then wait for each."""
        self._room.close()
        with self._lock:
            processes = [*self._unready, *(running.process for running in self._running.values())]
        threads = [threading.Thread(target=process.terminate, args=(STOP_SECONDS,)) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _forget_ended(self) -> None:
        for group_id, running in list(self._running.items()):
            if not running.process.is_running:
                logger.info("group %s has ended: %s", group_id, running.process.describe_end())
                del self._running[group_id]

    def _devices_in_use(self) -> set[str]:
        groups = [*self._unready.values(), *(running.devices for running in self._running.values())]
        return {device for devices in groups for device in devices}

    # --- finding processes of an earlier run

    def _described(self, group: WorkerGroup, devices: Sequence[str]) -> str:
        return json.dumps(
            {
                "adapter": self._name,
                "group_id": group.group_id,
                "worker_ids": group.worker_ids,
                "capabilities": dict(group.capabilities),
                "request_id": group.request_id,
                "devices": devices,
            }
        )

    def _find(self) -> Iterator[_Running]:
        """Return the worker processes that an earlier process of this adapter has started, without their child processes."""
        marked = {process.pid: text for process in psutil.process_iter() if (text := _group_text(process)) is not None}
        for pid, text in marked.items():
            try:
                process = psutil.Process(pid)
                described = json.loads(text)
                if marked.get(process.ppid()) == text or described["adapter"] != self._name:
                    continue
                capabilities: Mapping[str, int] = described["capabilities"]
                group = WorkerGroup(
                    described["group_id"],
                    tuple(described["worker_ids"]),
                    capabilities,
                    request_id=described["request_id"],
                )
                devices = tuple(described.get("devices", ()))
            except (psutil.Error, ValueError, KeyError, TypeError):
                # The process has just ended, or another program uses the variable.
                continue
            yield _Running(group, WorkerProcess(process), devices)


def _group_text(process: psutil.Process) -> str | None:
    try:
        text: str | None = process.environ().get(GROUP_VARIABLE)
    except (psutil.Error, OSError):
        # The process belongs to another user, or has just ended.
        return None
    return text
