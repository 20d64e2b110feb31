"""Submit, map, graphs and futures, from any application on Linux, Windows or macOS."""

from scaler.client.async_client import AsyncClient
from scaler.client.client import Client
from scaler.client.current_task import TaskProgress, current_task
from scaler.client.executor import ScalerExecutor
from scaler.client.future import ScalerFuture
from scaler.client.object_reference import ObjectReference
from scaler.client.progress import progress
from scaler.client.worker_calls import WorkerPlugin, by_name, worker_plugin
from scaler.errors import (
    ClientCancelledException,
    ClientQuitException,
    ClientShutdownException,
    DeserializeObjectError,
    DisconnectedError,
    GroupLimitError,
    LockError,
    LockLostError,
    LockTimeoutError,
    MissingObjects,
    NoWorkerError,
    ObjectStorageException,
    ProcessorDiedError,
    RemoteTaskError,
    ScalerError,
    SerializationError,
    TaskNotFoundError,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerPluginError,
    WorkerRunError,
)
from scaler.local.cluster import Cluster
from scaler.local.combo import SchedulerClusterCombo
from scaler.local.scheduler import Scheduler
from scaler.serialization.serializer import Serializer
from scaler_protocol.version import SOFTWARE_VERSION as __version__
from scaler_protocol.wire.call_options import Prefer, Retries

__all__ = [
    "AsyncClient",
    "Client",
    "ClientCancelledException",
    "ClientQuitException",
    "ClientShutdownException",
    "Cluster",
    "DeserializeObjectError",
    "DisconnectedError",
    "GroupLimitError",
    "LockError",
    "LockLostError",
    "LockTimeoutError",
    "MissingObjects",
    "NoWorkerError",
    "ObjectReference",
    "ObjectStorageException",
    "Prefer",
    "ProcessorDiedError",
    "RemoteTaskError",
    "Retries",
    "ScalerError",
    "ScalerExecutor",
    "ScalerFuture",
    "Scheduler",
    "SchedulerClusterCombo",
    "SerializationError",
    "Serializer",
    "TaskNotFoundError",
    "TaskProgress",
    "TaskTimeoutError",
    "WorkerDiedError",
    "WorkerPlugin",
    "WorkerPluginError",
    "WorkerRunError",
    "__version__",
    "by_name",
    "current_task",
    "progress",
    "worker_plugin",
]
