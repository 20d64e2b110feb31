"""`Scheduler`: a scheduler on this machine, with its object storage server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

from scaler.local.services import OBJECT_STORAGE, SCHEDULER, LocalService, Service, command_line, require

ANY_PORT = "tcp://127.0.0.1:0"


class Scheduler(LocalService):
    """A scheduler as a child process. Keyword arguments are the settings of `scaler_scheduler`; None: its default.

        scheduler = Scheduler()
        scheduler.start()
        client = Client(scheduler.get_address())

    Without `object_storage_address` it has an object storage server of its own. It logs warnings and errors only, unless
    `logging_level` says otherwise.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        object_storage_address: str | None = None,
        object_storage_memory_bytes: int | None = None,
        object_storage_path: str | PathLike[str] | None = None,
        object_storage_url: str | None = None,
        object_storage_endpoint: str | None = None,
        object_storage_password_file: str | PathLike[str] | None = None,
        object_storage_timeout_seconds: float | None = None,
        object_storage_disk_bytes: int | None = None,
        monitor_address: str | None = None,
        dashboard_url: str | None = None,
        protected: bool | None = None,
        ends_cluster: bool | None = None,
        allocate_policy: str | None = None,
        resources: Mapping[str, int | float | str] | str | None = None,
        scaling_controller_strategy: str | None = None,
        adapter_webhook_urls: Sequence[str] | None = None,
        max_number_of_tasks_waiting: int | None = None,
        max_task_attempts: int | None = None,
        share: Mapping[str, float] | Sequence[str] | None = None,
        client_timeout_seconds: float | None = None,
        worker_timeout_seconds: float | None = None,
        object_retention_seconds: float | None = None,
        load_balance_seconds: float | None = None,
        load_balance_trigger_times: int | None = None,
        security_dir: str | PathLike[str] | None = None,
        insecure: bool | None = None,
        event_loop: str | None = None,
        io_threads: int | None = None,
        logging_paths: Sequence[str] | None = None,
        logging_config_file: str | None = None,
        logging_level: str | None = "WARNING",
    ) -> None:
        """`address` None takes a free port of this machine; `get_address` tells which, once started."""
        settings = {name: value for name, value in locals().items() if name not in ("self", "address")}
        self._service = Service(
            SCHEDULER, [address or ANY_PORT, *command_line({"logging_level": logging_level} | settings)]
        )
        self._needs_storage = object_storage_address is None

    def launch(self) -> None:
        """Start the process without waiting; `wait_ready` does that."""
        require([SCHEDULER, OBJECT_STORAGE] if self._needs_storage else [SCHEDULER])
        super().launch()

    def get_address(self) -> str:
        """Return where clients and workers connect."""
        return self._service.address_of("scheduler")

    def get_object_storage_address(self) -> str:
        """Return where large values are stored."""
        return self._service.address_of("object_storage")

    def get_monitor_address(self) -> str:
        """Return where `scaler_top` and `scaler_ui` connect."""
        return self._service.address_of("monitor")
