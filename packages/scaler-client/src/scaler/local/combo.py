"""`SchedulerClusterCombo`: everything one machine needs, in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from scaler.local.cluster import Cluster
from scaler.local.scheduler import Scheduler
from scaler.local.services import (
    OBJECT_STORAGE,
    ON_INPUT,
    SCHEDULER,
    STOP_SECONDS,
    WORKER,
    Service,
    command_line,
    require,
    require_worker_count,
)

if TYPE_CHECKING:
    from scaler.local.dashboard import Dashboard


class SchedulerClusterCombo:
    """A scheduler, an object storage server and workers on this machine, running when the constructor returns.

        with SchedulerClusterCombo(n_workers=4) as combo, Client(combo.get_address()) as client:
            print(client.map(math.sqrt, range(100)))

    All of it ends with `shutdown`, with the `with` block, or with this process. Keyword arguments are the settings of the
    three commands; None stands for the command's default. Scheduler and agent share a process, which makes the way of a task
    shorter; `Scheduler` and `Cluster` have one each.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        address: str | None = None,
        object_storage_address: str | None = None,
        monitor_address: str | None = None,
        per_worker_capabilities: Mapping[str, int] | str | None = None,
        event_loop: str = "builtin",
        per_worker_task_queue_size: int | None = None,
        protected: bool = True,
        *,
        dashboard: bool = False,
        dashboard_url: str | None = None,
        security: str | PathLike[str] | None = None,
        insecure: bool | None = None,
        worker_names: Sequence[str] | None = None,
        resources: Mapping[str, int | float | str] | str | None = None,
        gpu_devices: Sequence[str] | None = None,
        cluster_resources: Mapping[str, int | float | str] | str | None = None,
        enforce_memory: bool | None = None,
        preload: str | None = None,
        allocate_policy: str | None = None,
        scaling_controller_strategy: str | None = None,
        adapter_webhook_urls: Sequence[str] | None = None,
        max_number_of_tasks_waiting: int | None = None,
        max_task_attempts: int | None = None,
        share: Mapping[str, float] | Sequence[str] | None = None,
        heartbeat_interval_seconds: float | None = None,
        task_timeout_seconds: float | None = None,
        death_timeout_seconds: float | None = None,
        client_timeout_seconds: float | None = None,
        worker_timeout_seconds: float | None = None,
        object_retention_seconds: float | None = None,
        garbage_collect_interval_seconds: float | None = None,
        trim_memory_threshold_bytes: int | None = None,
        hard_processor_suspend: bool | None = None,
        load_balance_seconds: float | None = None,
        load_balance_trigger_times: int | None = None,
        memory_limit_bytes: int | None = None,
        object_size_limit_bytes: int | None = None,
        storage_path: str | PathLike[str] | None = None,
        storage_url: str | None = None,
        storage_endpoint: str | None = None,
        storage_password_file: str | PathLike[str] | None = None,
        storage_timeout_seconds: float | None = None,
        disk_limit_bytes: int | None = None,
        scheduler_io_threads: int | None = None,
        worker_io_threads: int | None = None,
        per_worker_queue_size: int | None = None,
        logging_paths: Sequence[str] | None = None,
        logging_config_file: str | None = None,
        logging_level: str | None = "WARNING",
    ) -> None:
        """Start everything, and return when the workers can run tasks, their preload done.

        `n_workers`: None for as many as CPUs; 0 for a scheduler that waits for workers from elsewhere. `address`: where the
        scheduler listens; None takes free ports. Tasks find the modules that this process finds.
        `object_storage_address`: where the object storage server listens; by default next to the scheduler.
        `storage_path`: a folder for objects that do not fit into `memory_limit_bytes`, `disk_limit_bytes` at most.
        `storage_url`: instead of that folder a Redis or Valkey server or a bucket of S3, see `docs/storage.md`, with
        `storage_endpoint` (a store other than AWS), `storage_password_file` (Redis) and `storage_timeout_seconds` (one request).
        `security`: the security directory with the keys of all services, see `docs/security.md`; by default there are none.
        `insecure`: an address that other machines reach is allowed without keys too; everybody there may run code here then.
        `protected`: clients cannot shut the cluster down.
        `dashboard`: serve the pages of `scaler_ui` too, on a free port of this machine; `dashboard_url` is where.
        `dashboard_url`: where pages for this cluster are served otherwise, for `Client.dashboard_url`.
        `share`: groups of clients and their weights, such as `{"pricing": 3, "research": 1}`; see `docs/shares.md`.
        `resources`: counted resources of this host, as in "gpu=2,licence=3"; `gpu_devices`: its GPUs, by number or UUID;
        `cluster_resources`: limits that the scheduler counts for the whole cluster. See `docs/resources.md`.
        `enforce_memory`: a task that takes more memory than it asks for with `resources` is ended.
        `per_worker_queue_size`: an older name of `per_worker_task_queue_size`.

        Raises ValueError for a number of workers below 0 or over 65,535, ImportError where the three distributions, or
        scaler-ui for a dashboard, are not installed, and scaler_protocol.service.errors.ServiceError when a service does not
        start: it says why.
        """
        if isinstance(n_workers, str):
            raise TypeError(f"n_workers is a number, and comes first; {n_workers!r} belongs to address=")
        require_worker_count(n_workers, 0)
        if dashboard and dashboard_url is not None:
            raise ValueError("dashboard=True serves the pages at a URL of its own: leave dashboard_url out")
        require([SCHEDULER, OBJECT_STORAGE, WORKER])
        from scaler.client.security import checked_security
        from scaler_protocol.service import shared_process

        self._storage: Service | None = None
        self._dashboard: Dashboard | None = None
        self._dashboard_url = dashboard_url
        common_settings: dict[str, Any] = {
            "security_dir": checked_security(security),
            "logging_paths": logging_paths,
            "logging_config_file": logging_config_file,
            "logging_level": logging_level,
        }
        # The scheduler would start a storage server itself, which not all of these settings would reach.
        of_storage = {
            "memory_limit_bytes": memory_limit_bytes,
            "object_size_limit_bytes": object_size_limit_bytes,
            "storage_path": storage_path,
            "storage_url": storage_url,
            "storage_endpoint": storage_endpoint,
            "storage_password_file": storage_password_file,
            "storage_timeout_seconds": storage_timeout_seconds,
            "disk_limit_bytes": disk_limit_bytes,
        }
        if object_storage_address is not None or any(setting is not None for setting in of_storage.values()):
            self._storage = Service(
                OBJECT_STORAGE,
                [
                    object_storage_address or "tcp://127.0.0.1:0",
                    *command_line(
                        {
                            **of_storage,
                            "insecure": insecure,
                            "event_loop": event_loop,
                            **common_settings,
                        }
                    ),
                ],
            )
        self._service: Service | None = None
        self._worker_count = n_workers if n_workers is not None else len(worker_names or ()) or os.cpu_count() or 1
        try:
            if dashboard:
                from scaler.local.dashboard import Dashboard

                self._dashboard = Dashboard(common_settings)
                self._dashboard_url = self._dashboard.url
            storage_address = None
            if self._storage is not None:
                self._storage.start()
                (bound,) = self._storage.wait_ready().values()
                storage_address = str(bound)
            scheduler = Scheduler(
                address,
                object_storage_address=storage_address,
                monitor_address=monitor_address,
                dashboard_url=self._dashboard_url,
                insecure=insecure,
                protected=protected,
                ends_cluster=True,
                allocate_policy=allocate_policy,
                resources=cluster_resources,
                scaling_controller_strategy=scaling_controller_strategy,
                adapter_webhook_urls=adapter_webhook_urls,
                max_number_of_tasks_waiting=max_number_of_tasks_waiting,
                max_task_attempts=max_task_attempts,
                share=share,
                client_timeout_seconds=client_timeout_seconds,
                worker_timeout_seconds=worker_timeout_seconds,
                object_retention_seconds=object_retention_seconds,
                load_balance_seconds=load_balance_seconds,
                load_balance_trigger_times=load_balance_trigger_times,
                event_loop=event_loop,
                io_threads=scheduler_io_threads,
                **common_settings,
            )
            cluster = Cluster(
                ON_INPUT,
                n_workers or None,
                worker_names=worker_names,
                preload=preload,
                per_worker_capabilities=per_worker_capabilities,
                resources=resources,
                gpu_devices=gpu_devices,
                enforce_memory=enforce_memory,
                per_worker_task_queue_size=per_worker_task_queue_size,
                per_worker_queue_size=per_worker_queue_size,
                heartbeat_interval_seconds=heartbeat_interval_seconds,
                task_timeout_seconds=task_timeout_seconds,
                death_timeout_seconds=death_timeout_seconds,
                garbage_collect_interval_seconds=garbage_collect_interval_seconds,
                trim_memory_threshold_bytes=trim_memory_threshold_bytes,
                hard_processor_suspend=hard_processor_suspend,
                event_loop=event_loop,
                io_threads=worker_io_threads,
                **common_settings,
            )
            has_workers = n_workers is None or n_workers != 0
            services = [scheduler.command_line, cluster.command_line] if has_workers else [scheduler.command_line]
            self._service = Service(
                shared_process.MODULE,
                shared_process.join_command_lines(services),
                name="the local cluster",
                runs_tasks=has_workers,
                preloads=has_workers and preload is not None,
                # First the workers, then the scheduler.
                stop_seconds=2 * STOP_SECONDS,
            )
            self._service.start()
            # While it imports its libraries, so does this process what its clients will need.
            import scaler.client.operations  # noqa: F401

            self._service.wait_ready()
            if self._dashboard is not None:
                self._dashboard.watch(self.get_monitor_address())
        except BaseException:
            self.shutdown()
            raise

    def get_address(self) -> str:
        """Return where clients connect."""
        return self._address_of("scheduler")

    def get_object_storage_address(self) -> str:
        """Return where large values are stored."""
        return self._address_of("object_storage")

    def get_monitor_address(self) -> str:
        """Return where `scaler_top` and `scaler_ui` connect."""
        return self._address_of("monitor")

    @property
    def dashboard_url(self) -> str | None:
        """Where a browser shows the cluster; None where it has no pages."""
        return self._dashboard_url

    def shutdown(self) -> None:
        """End the dashboard, workers, scheduler and object storage server, in this order. Idempotent."""
        if self._dashboard is not None:
            self._dashboard.terminate()
        if self._service is not None:
            self._service.terminate()
        if self._storage is not None:
            self._storage.terminate()

    def _address_of(self, role: str) -> str:
        assert self._service is not None
        return self._service.address_of(role)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(f'{name} {value}' for name, value in self._facts().items())}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from scaler.client.notebook import facts_table

        facts = self._facts()
        if "scheduler" in facts:
            facts = {"workers": self._worker_count, **facts, "object storage": self.get_object_storage_address()}
        return facts_table(type(self).__name__, facts)

    def _facts(self) -> dict[str, object]:
        """What there is to say of the cluster, for people. In every state."""
        service = getattr(self, "_service", None)
        if service is None or not service.is_running:
            return {"state": "not running"}
        facts: dict[str, object] = {"scheduler": self.get_address(), "monitors connect to": self.get_monitor_address()}
        return facts if self._dashboard_url is None else {**facts, "dashboard": self._dashboard_url}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __del__(self) -> None:
        # A constructor that raised early has made none of the attributes.
        if hasattr(self, "_service"):
            self.shutdown()
