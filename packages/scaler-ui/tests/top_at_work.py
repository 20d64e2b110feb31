"""`scaler_top` in a terminal that does not exist, for tests that press its keys and read its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from synthetic_cluster import SyntheticScheduler, failures, snapshot
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from scaler_protocol.address import Address
from scaler_protocol.testing.waiting import wait_until
from scaler_ui.cancellation import NO_KEYS, Operator
from scaler_ui.feed import FIGURES_ONLY, MonitorFeed
from scaler_ui.top.app import TopApplication
from scaler_ui.top.questions import Questions

ROUNDS = 4
"""A key passes from the application to a table and back as an action, which may have something laid out: each is a message."""


class PatientPilot(Pilot[int]):
    """Waits until what it has begun is over. Textual takes a program for idle that gets no processor time, because others do."""

    async def press(self, *keys: str) -> None:
        for key in keys:
            await super().press(key)
            await self._settle()

    async def pause(self, delay: float | None = None) -> None:
        await super().pause(delay)
        if delay is None:
            await self._settle()

    async def _settle(self) -> None:
        for _ in range(ROUNDS):
            # All messages that are there are handled; they may have made others.
            await super().pause(0)


Steps = Callable[[TopApplication, Pilot[int]], Awaitable[None]]


def use_top(
    scheduler: SyntheticScheduler,
    steps: Steps,
    size: tuple[int, int] = (170, 40),
    timeout_s: float = 60,
    operator: Operator = NO_KEYS,
) -> None:
    """Run the application with a feed that has seen one snapshot and some failures."""

    async def use(feed: MonitorFeed, questions: Questions) -> None:
        application = TopApplication(feed, timeout_s, questions)
        async with application.run_test(size=size):
            pilot = PatientPilot(application)
            await pilot.pause()
            await steps(application, pilot)

    address = Address.parse(scheduler.address)
    with MonitorFeed(address, FIGURES_ONLY) as feed, Questions(address, operator=operator) as questions:
        scheduler.wait_for_monitor(1)
        scheduler.publish(failures(1, 2), snapshot(1, success=4_321))
        wait_until(lambda: knows_a_snapshot(feed))
        asyncio.run(use(feed, questions))


def knows_a_snapshot(feed: MonitorFeed, sequence: int = 1) -> bool:
    with feed.model() as model:
        return model.snapshot is not None and model.snapshot.sequence >= sequence


def text_of(application: TopApplication, name: str) -> str:
    return str(application.screen.query_one(f"#{name}", Static).content)


def column(application: TopApplication, view: str, name: str) -> list[str]:
    table = application.query_one(f"#{view}", DataTable)
    labels = [str(one.label).strip("[]") for one in table.ordered_columns]
    return [str(table.get_row_at(row)[labels.index(name)]) for row in range(table.row_count)]
