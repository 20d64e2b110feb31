"""A small service for the tests of starting, stopping and dying; run as a program by `test_child`."""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

from pydantic import Field

from scaler_protocol.service import event_loop
from scaler_protocol.service.command import EventLoopSettings, run_command
from scaler_protocol.service.readiness import Readiness
from scaler_protocol.service.signals import StopSignals


class ClockSettings(EventLoopSettings):
    """Runs until it is stopped."""

    command: ClassVar[str] = "scaler_clock"
    section: ClassVar[str] = "clock"

    stubborn: bool = Field(default=False, description="do not react to being asked to stop")


def run(settings: ClockSettings) -> int:
    readiness = Readiness.from_environment()

    async def serve() -> int:
        stopped = asyncio.Event()
        with StopSignals(lambda _signal: None if settings.stubborn else stopped.set()):
            readiness.ready({"clock": "tcp://127.0.0.1:4711"})
            await stopped.wait()
            readiness.stopping()
        return 0

    return event_loop.run(serve, settings.event_loop)


if __name__ == "__main__":
    sys.exit(run_command(ClockSettings, run))
