"""Receives the monitor streams for some time and writes the bars of the model."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.security_settings import peer_security
from scaler_ui.feed import MonitorFeed
from scaler_ui.model.chrome_trace import chrome_trace
from scaler_ui.monitor_address import check_monitor_address
from scaler_ui.trace.settings import TraceSettings

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


def run(settings: TraceSettings) -> int:
    """Watch, and write the file. Returns the exit status."""
    security = peer_security(settings, "monitor", "operator")
    check_monitor_address(settings.monitor_address, security=security)
    with MonitorFeed(settings.monitor_address, security=security) as feed:
        _wait_for_scheduler(feed, settings.timeout)
        logger.info("the scheduler at %s answers; watching for %g s", settings.monitor_address, settings.seconds)
        began = time.monotonic()
        trouble = _watch(feed, settings)
        watched_s = time.monotonic() - began
        with feed.model() as model:
            pieces = list(chrome_trace(model))
            count, stride = len(model.bars), model.stride
    _write(settings.output, pieces)
    left_out = f", 1 of {stride} tasks, because there were too many" if stride > 1 else ""
    print(f"wrote {settings.output}: {count:,} tasks{left_out}; open it at https://ui.perfetto.dev")
    if trouble:
        raise ServiceError(
            f"{settings.output} is incomplete, because {trouble} ({watched_s:.1f} of {settings.seconds:g} s were watched)"
        )
    return 0


def _watch(feed: MonitorFeed, settings: TraceSettings) -> str:
    """Let the time pass. Return why the recording is incomplete; empty if it is whole."""
    deadline = time.monotonic() + settings.seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_POLL_SECONDS, left))
            if feed.refusal:
                return f"the scheduler does not let this monitor in any more: {feed.refusal}"
            if feed.silent_s() > settings.timeout:
                return f"no message has come from the scheduler for {feed.silent_s():.0f} s"
    except KeyboardInterrupt:
        pass
    if not feed.connected:
        return "the connection to the scheduler was lost"
    if feed.lost_count:
        return "the connection to the scheduler was lost for a while"
    return ""


def _wait_for_scheduler(feed: MonitorFeed, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with feed.model() as model:
            if model.snapshot is not None:
                return
        feed.require_not_refused()
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
