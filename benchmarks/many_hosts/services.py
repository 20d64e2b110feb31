"""The real scheduler and object storage server of a play, watched from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import processes
from scaler_protocol.service.child import ChildService

START_SECONDS = 60.0
STOP_SECONDS = 30.0
ANY_PORT = "tcp://127.0.0.1:0"

_TURNS = re.compile(r"turns: (\d+) took ([\d.]+) ms, the longest ([\d.]+) ms, or ([\d.]+) ms of processor")


@dataclass(frozen=True, slots=True)
class Turns:
    """How many turns the scheduler's loop had in some time, and how long they took."""

    count: int
    seconds: float
    longest_seconds: float
    longest_cpu_seconds: float
    """The longest by the clock and in processor time. The clock also counts what else the machine did meanwhile."""


class PlayedServices:
    """An object storage server that stays, and a scheduler that may be killed and started again at its address."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "scheduler.log"
        self._log_read = 0
        self._store = ChildService.start("scaler_objstore", [ANY_PORT], stdout=subprocess.DEVNULL)
        try:
            self._store_address = self._store.wait_ready(START_SECONDS)["object_storage"]
            self._scheduler = self._start(ANY_PORT)
        except BaseException:
            self._store.terminate(STOP_SECONDS)
            raise

    def _start(self, address: str) -> ChildService:
        scheduler = ChildService.start(
            "scaler_scheduler",
            [
                address,
                f"--object-storage-address={self._store_address}",
                f"--logging-paths={self._log}",
                "--logging-level=DEBUG",
            ],
        )
        self.address = str(scheduler.wait_ready(START_SECONDS)["scheduler"])
        return scheduler

    def kill_scheduler(self) -> None:
        """End the scheduler without a word."""
        os.kill(self._scheduler.pid, signal.SIGKILL)
        self._scheduler.join(STOP_SECONDS)
        self._scheduler.terminate(STOP_SECONDS)

    def start_scheduler(self) -> None:
        """Start the scheduler again where it was."""
        self._scheduler = self._start(self.address)

    def cpu_seconds(self) -> float:
        """Return the processor time that the scheduler has used."""
        return processes.cpu_seconds(self._scheduler.pid)

    def rss_bytes(self) -> int:
        """Return the scheduler's resident memory."""
        return int(psutil.Process(self._scheduler.pid).memory_info().rss)

    def turns(self) -> Turns:
        """Return the turns of which the log has told since this was last called. The log tells every second."""
        with self._log.open(encoding="utf-8") as file:
            file.seek(self._log_read)
            told = [match.groups() for line in file if (match := _TURNS.search(line))]
            self._log_read = file.tell()
        return Turns(
            sum(int(count) for count, _, _, _ in told),
            sum(float(taken) for _, taken, _, _ in told) / 1000,
            max((float(longest) for _, _, longest, _ in told), default=0.0) / 1000,
            max((float(longest) for _, _, _, longest in told), default=0.0) / 1000,
        )

    def close(self) -> None:
        """Stop both. Idempotent."""
        self._scheduler.terminate(STOP_SECONDS)
        self._store.terminate(STOP_SECONDS)
