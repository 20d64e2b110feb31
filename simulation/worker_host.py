"""What a simulated processor has from the machine it runs on."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

from simulation.clock import Clock
from simulation.ledger import Ledger
from simulation.object_storage import ObjectStorage
from simulation.programs import Library


class WorkerHost(Protocol):
    """What a processor has from the machine it runs on, and from the agent there, which is told what happens."""

    name: str
    clock: Clock
    random: Random
    ledger: Ledger
    library: Library
    cache: dict[bytes, bytes]
    """The objects of this machine, by id."""
    storage: ObjectStorage

    def post(self, event: Any) -> None:
        """Tell the agent."""

    def processor_ended(self, number: int) -> None:
        """Note that this process is no more, before the agent is told."""
