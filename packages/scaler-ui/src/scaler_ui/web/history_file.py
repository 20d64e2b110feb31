"""The history in a file, so that a restart of `scaler_ui` does not lose the last hour. The file is as bounded as the history."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path

from scaler_ui.feed import MonitorFeed
from scaler_ui.model.history import SERIES, History

logger = logging.getLogger(__name__)

FORMAT = "scaler_ui history 1"
WRITE_SECONDS = 60.0
FILE_BYTES_MAX = 16 * 1024**2


class HistoryFile:
    """One file: a line of JSON that names the series, then their samples as numbers of 8 bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, history: History) -> None:
        """Begin a history with the samples of the file. A file that is missing or cannot be read is left out."""
        try:
            if self.path.stat().st_size > FILE_BYTES_MAX:
                raise ValueError(f"it is larger than {FILE_BYTES_MAX} bytes")
            with self.path.open("rb") as file:
                head = json.loads(file.readline(100_000))
                samples = file.read()
            names, count = [str(name) for name in head["series"]], int(head["samples"])
            if head["format"] != FORMAT or not 0 <= count <= len(samples):
                raise ValueError("it is of another version")
            size = 8 * count
            if len(samples) != size * (len(names) + 1):
                raise ValueError("it is not whole")
            numbers = (
                [array("d", samples[at : at + size]) for at in range(0, len(samples), size)] if size else [array("d")]
            )
            if not all(map(math.isfinite, (value for column in numbers for value in column))):
                raise ValueError("it has values that are not numbers")
            if any(later < earlier for earlier, later in zip(numbers[0], numbers[0][1:], strict=False)):
                raise ValueError("its times are not in order")
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("--history-file %s cannot be read, so the history begins now: %s", self.path, error)
            return
        first = max(0, count - history.limit)
        history.restore(
            numbers[0][first:], {name: column[first:] for name, column in zip(names, numbers[1:], strict=True)}
        )

    def write(self, history: History) -> None:
        """Write the samples of a history. Whoever reads the file sees the old or the new one whole."""
        head = {"format": FORMAT, "series": list(SERIES), "samples": len(history.times)}
        columns = [history.times, *(history.columns[name] for name in SERIES)]
        self._write(json.dumps(head).encode() + b"\n" + b"".join(column.tobytes() for column in columns))

    def _write(self, data: bytes) -> None:
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            beside.write_bytes(data)
            beside.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            logger.warning("--history-file %s cannot be written: %s", self.path, error)

    @contextlib.contextmanager
    def keeping(self, feed: MonitorFeed) -> Iterator[None]:
        """Write the history of a feed once a minute, and at the end."""
        closing = threading.Event()

        def run() -> None:
            while not closing.wait(WRITE_SECONDS):
                self._keep(feed)

        thread = threading.Thread(target=run, name="history file", daemon=True)
        thread.start()
        try:
            yield
        finally:
            closing.set()
            thread.join()
            self._keep(feed)

    def _keep(self, feed: MonitorFeed) -> None:
        with feed.model() as model:
            self.write(model.history)
