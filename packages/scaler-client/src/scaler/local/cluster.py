"""`Cluster`: workers on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

from scaler.local.services import WORKER, LocalService, Service, command_line, require, require_worker_count


class Cluster(LocalService):
    """Workers as child processes, for the scheduler at `address`. Keyword arguments are the settings of `scaler_cluster`.

    None stands for the command's default; for `n_workers` that is the number of `worker_names`, or of CPUs. Tasks find the
    modules that this process finds. Raises ValueError for a number of workers below 1 or over 65,535.
    """

    def __init__(
        self,
        address: str,
        n_workers: int | None = None,
        *,
        worker_names: Sequence[str] | None = None,
        object_storage_address: str | None = None,
        preload: str | None = None,
        per_worker_capabilities: Mapping[str, int] | str | None = None,
        per_worker_task_queue_size: int | None = None,
        heartbeat_interval_seconds: float | None = None,
        task_timeout_seconds: float | None = None,
        death_timeout_seconds: float | None = None,
        garbage_collect_interval_seconds: float | None = None,
        trim_memory_threshold_bytes: int | None = None,
        hard_processor_suspend: bool | None = None,
        security_dir: str | PathLike[str] | None = None,
        event_loop: str | None = None,
        io_threads: int | None = None,
        logging_paths: Sequence[str] | None = None,
        logging_config_file: str | None = None,
        logging_level: str | None = None,
    ) -> None:
        require_worker_count(n_workers, 1)
        settings = {name: value for name, value in locals().items() if name not in ("self", "address", "n_workers")}
        self._service = Service(
            WORKER,
            [address, *command_line({"num_of_workers": n_workers, **settings})],
            runs_tasks=True,
            preloads=preload is not None,
        )

    def start(self) -> None:
        """Start the workers, and return when they can run tasks, their preload done. The scheduler may come later.

        Raises scaler_protocol.service.errors.ServiceError when they do not start.
        """
        self.launch()
        self._service.wait_started()

    def launch(self) -> None:
        """Start the process without waiting; `wait_ready` does that."""
        require([WORKER])
        super().launch()

    def wait_ready(self, address: str | None = None) -> None:
        """Wait until the workers can run tasks and the scheduler knows them.

        `address` is the scheduler's, for a cluster that was made with the address `-` to learn it only now.
        """
        if address is not None:
            self._service.give_address(address)
        super().wait_ready()
