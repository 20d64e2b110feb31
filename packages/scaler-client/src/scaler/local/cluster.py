"""`Cluster`: workers on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Self

from scaler.local.services import WORKER, LocalService, Service, command_line, require, require_worker_count


class Cluster(LocalService):
    """Workers as child processes, for the scheduler at `address`. Keyword arguments are the settings of `scaler_cluster`.

        cluster = Cluster("tcp://127.0.0.1:2345", n_workers=4)
        cluster.start()
        cluster.join()

    Warnings and errors only are logged, unless `logging_level` says otherwise. None stands for the command's default; for
    `n_workers` that is the number of `worker_names`, or of CPUs. Tasks find the modules that this process finds.
    `worker_io_threads` and `per_worker_queue_size` are older names of `io_threads` and `per_worker_task_queue_size`. Raises
    ValueError for a number of workers below 1 or over 65,535.

    A `with` block begins when the workers can run tasks, their preload done. It raises
    scaler_protocol.service.errors.ServiceError when they do not start.
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
        resources: Mapping[str, int | float | str] | str | None = None,
        gpu_devices: Sequence[str] | None = None,
        enforce_memory: bool | None = None,
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
        worker_io_threads: int | None = None,
        per_worker_queue_size: int | None = None,
        logging_paths: Sequence[str] | None = None,
        logging_config_file: str | None = None,
        logging_level: str | None = "WARNING",
    ) -> None:
        require_worker_count(n_workers, 1)
        settings = {name: value for name, value in locals().items() if name not in ("self", "address", "n_workers")}
        for name, older in (
            ("io_threads", "worker_io_threads"),
            ("per_worker_task_queue_size", "per_worker_queue_size"),
        ):
            older_value = settings.pop(older)
            if settings[name] is None:
                settings[name] = older_value
        self._service = Service(
            WORKER,
            [address, *command_line({"logging_level": logging_level, "num_of_workers": n_workers} | settings)],
            runs_tasks=True,
            preloads=preload is not None,
        )

    def start(self) -> None:
        """Start the workers, and return at once; the scheduler may come later. `wait_ready` waits for both.

        What keeps the workers from starting is on the standard error of this process; `is_running` is false then, and
        `join` returns.
        """
        self.launch()

    def __enter__(self) -> Self:
        self.launch()
        self._service.wait_started()
        return self

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
