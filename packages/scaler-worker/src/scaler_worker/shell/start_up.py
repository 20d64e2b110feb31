"""From the agent's start to the moment it is ready: every worker can run a task, and the scheduler knows them."""

from __future__ import annotations

from scaler_protocol.service.process import ServiceContext


class StartUp:
    """Tells the service context what has been reached, each thing once."""

    def __init__(self, context: ServiceContext, workers: int, preload: str, scheduler: str) -> None:
        self._context = context
        self._missing = set(range(workers))
        """Slots of workers that cannot run a task yet."""
        self._workers = workers
        self._preload = preload
        self._scheduler = scheduler
        self.registered = False
        """Whether the scheduler has welcomed the agent, at any time."""
        self._ready = False
        if preload:
            self._say_missing()

    def on_worker_started(self, slot: int) -> None:
        """A worker's processor takes tasks now."""
        if slot not in self._missing:
            return
        self._missing.discard(slot)
        if self._missing:
            if self._preload:
                self._say_missing()
            return
        self._context.started()
        if not self.registered:
            self._context.status(f"no scheduler has answered at {self._scheduler} yet")
        self._check()

    def on_registered(self) -> None:
        """The scheduler has welcomed the agent."""
        self.registered = True
        self._check()

    def _say_missing(self) -> None:
        self._context.status(f"{len(self._missing)} of {self._workers} workers still run --preload {self._preload}")

    def _check(self) -> None:
        if self.registered and not self._missing and not self._ready:
            self._ready = True
            self._context.ready()
