"""Receives the monitor streams for some time and writes the bars of the model."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.security_settings import peer_security
from scaler_ui.feed import MonitorFeed
from scaler_ui.model.chrome_trace import chrome_trace
from scaler_ui.monitor_address import check_monitor_address
from scaler_ui.trace.settings import TraceSettings

_POLL_SECONDS = 0.05


def run(settings: TraceSettings) -> int:
    """Watch, and write the file. Returns the exit status."""
    security = peer_security(settings, "monitor", "operator")
    check_monitor_address(settings.monitor_address, security=security)
    with MonitorFeed(settings.monitor_address, security=security) as feed:
        _wait_for_scheduler(feed, settings.timeout)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(settings.seconds)
        with feed.model() as model:
            pieces = list(chrome_trace(model))
            count, stride = len(model.bars), model.stride
    _write(settings.output, pieces)
    left_out = f", 1 of {stride} tasks, because there were too many" if stride > 1 else ""
    print(f"wrote {settings.output}: {count:,} tasks{left_out}; open it at https://ui.perfetto.dev")
    return 0


def _wait_for_scheduler(feed: MonitorFeed, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with feed.model() as model:
            if model.snapshot is not None:
                return
        if time.monotonic() >= deadline:
            raise ServiceError(
                f"no message from a scheduler at {feed.monitor_address} within {timeout_s:g} s; is it running, and is this "
                f"the monitor address that it printed?"
            )
        time.sleep(_POLL_SECONDS)


def _write(path: Path, pieces: list[str]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
    except OSError as error:
        raise ServiceError(f"--output: cannot write {path}: {error.strerror}") from None
