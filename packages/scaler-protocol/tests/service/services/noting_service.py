"""A service for the tests of several in one process: says on stdout what becomes of it."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from scaler_protocol.address import Address
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.process import ServiceContext
from scaler_protocol.service.settings import Short


class NotingService:
    """`what`: what it does when it is started."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.note("made")

    def note(self, text: object) -> None:
        print(self.name, text, flush=True)

    @property
    def settings_class(self) -> type[EventLoopSettings]:
        name = self.name

        class Settings(EventLoopSettings):
            """Notes what becomes of it."""

            command: ClassVar[str] = f"scaler_{name}"
            section: ClassVar[str] = name

            what: Annotated[
                Literal["run", "fail", "fail-later", "raise", "end", "never-ready", "be-slow"], Short("w")
            ] = Field(default="run", description="what to do")

        return Settings

    def prepare(self, settings: object, *, alone: bool) -> None:
        self.note(f"prepared alone={alone} in {os.getpid()}")

    async def serve(self, settings: object, context: ServiceContext) -> int:
        what = settings.what  # type: ignore[attr-defined]
        self.note(f"starts beside {sorted(context.addresses)}")
        stopped = asyncio.Event()

        def on_stop(number: object) -> None:
            self.note(f"is asked to stop: {number!r}")
            stopped.set()

        try:
            if what == "fail":
                raise ServiceError(f"{self.name} does not start")
            if what == "be-slow":
                await stopped.wait()
            with context.stop_signals(on_stop, lambda number: self.note(f"hears that it will be: {number!r}")):
                if what != "never-ready":
                    context.ready({self.name: Address.parse("tcp://127.0.0.1:4711")})
                if what == "fail-later":
                    raise ServiceError(f"{self.name} cannot go on")
                if what == "raise":
                    raise ZeroDivisionError("a mistake in the program")
                if what != "end":
                    await stopped.wait()
                    await asyncio.sleep(0.05)  # sleeps: the others must still be there in that time
            return 0
        finally:
            self.note("ends")

    def close(self) -> None:
        self.note("closed")
