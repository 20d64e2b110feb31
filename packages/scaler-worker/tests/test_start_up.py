"""When an agent says that it is started, and ready, and what it says it waits for."""

from __future__ import annotations

from typing import Any

from scaler_worker.shell.start_up import StartUp


class Context:
    """Takes note of what is said to it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self) -> None:
        self.heard.append("started")

    def ready(self) -> None:
        self.heard.append("ready")

    def status(self, text: str) -> None:
        self.heard.append(text)


def test_workers_then_scheduler() -> None:
    context: Any = Context()
    start_up = StartUp(context, 2, "", "tcp://there:1")
    start_up.on_worker_started(1)
    # Its processor died and another took its place.
    start_up.on_worker_started(1)
    assert context.heard == []
    start_up.on_worker_started(0)
    assert context.heard == ["started", "no scheduler has answered at tcp://there:1 yet"]
    start_up.on_registered()
    start_up.on_registered()
    start_up.on_worker_started(0)
    assert context.heard[2:] == ["ready"]


def test_scheduler_then_workers_with_a_preload() -> None:
    context: Any = Context()
    start_up = StartUp(context, 2, "pkg:load()", "tcp://there:1")
    start_up.on_registered()
    start_up.on_worker_started(0)
    start_up.on_worker_started(1)
    assert context.heard == [
        "2 of 2 workers still run --preload pkg:load()",
        "1 of 2 workers still run --preload pkg:load()",
        "started",
        "ready",
    ]
