"""A synthetic scheduler with `scaler_ui` beside it, for tests in a browser."""

from __future__ import annotations

from typing import Any

from synthetic_cluster import (
    ALICE,
    FUNCTIONS,
    UNIX,
    SyntheticScheduler,
    events,
    failures,
    finished_tasks,
    large_graph,
    log,
    small_graph,
    snapshot,
)

from scaler_protocol.service.child import ChildService
from scaler_protocol.wire.messages import AdapterStatus, MonitorSnapshot, ScalingEvent, TaskEvent

PAGES = (
    "overview",
    "functions",
    "workers",
    "stream",
    "tasks",
    "errors",
    "clients",
    "graphs",
    "objects",
    "scaling",
    "logs",
    "scheduler",
    "jobs",
)


class Stage:
    """A synthetic scheduler with `scaler_ui` beside it."""

    def __init__(self) -> None:
        self.scheduler = SyntheticScheduler()
        self.child = ChildService.start("scaler_ui.web", [self.scheduler.address, "--port=0", "--timeout=600"])
        self.base = str(self.child.wait_ready(30)["webui"]).replace("tcp", "http")
        self.scheduler.wait_for_monitor()
        self.second = 120

    def snapshot(self, **fields: Any) -> MonitorSnapshot:
        """One more second of the cluster of `stage_at_work`, with these fields."""
        self.second += 1
        return snapshot(self.second, agents=4, success=18_040, **fields)

    def close(self) -> None:
        status = self.child.terminate(40)
        self.scheduler.__exit__()
        assert status == 0


def stage_at_work() -> Stage:
    """A cluster that has worked for a while."""
    stage = Stage()
    for second in range(1, 121):
        stage.scheduler.publish(
            snapshot(
                second,
                agents=4,
                success=second * 150 + second % 7 * 40,
                adapters=(AdapterStatus("http://127.0.0.1:8080/", "ok", 4, 10, 4, 5, 1, "linux"),),
                scaling_strategy="vanilla",
                scaling_events=(
                    ScalingEvent(1, UNIX, "requested", "http://127.0.0.1:8080/", 1, "40 tasks need 1 group"),
                ),
            )
        )
    stage.scheduler.publish(large_graph(), small_graph())
    stage.scheduler.publish(finished_tasks(2_000, agents=4, began=UNIX + 58))
    waiting = [(UNIX + 120, ALICE, 9_000 + n, TaskEvent.SUBMITTED, "", FUNCTIONS[n % 5], 0, -1) for n in range(40)]
    stage.scheduler.publish(events(2, waiting), failures(1, 3))
    stage.scheduler.publish(
        log(
            1,
            (20, "scheduler listens on tcp://127.0.0.1:2345"),
            (20, "agent node00 with 4 workers connected from node00.example.org"),
            (30, "agent node07 was silent for 60 s: given up"),
        )
    )
    return stage
