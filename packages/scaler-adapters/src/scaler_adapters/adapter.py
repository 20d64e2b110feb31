"""What a worker adapter is: a small class that starts, stops and lists groups of workers on somebody's machines.

The webhook around it (`scaler_adapters.application`) does the rest: HTTP, tokens, limits, repeated requests. `docs/adapters.md`
shows how to write one. Adapters are found by their entry point in the group `ENTRY_POINTS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from scaler_adapters.webhook_settings import WebhookSettings

ENTRY_POINTS = "scaler.worker_adapters"
"""Group of entry points, each naming a subclass of `WorkerAdapter`."""


class GroupState(Enum):
    """How far a group is, as far as the adapter can see."""

    PENDING = "pending"
    """It waits for its machines: nobody need expect its workers yet."""
    RUNNING = "running"
    ENDING = "ending"
    """Its machines go away soon: the scheduler should let its workers finish and leave."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Workers that were started together and are stopped together."""

    group_id: str
    worker_ids: tuple[str, ...]
    """The names under which the workers appear at the scheduler: its only way to recognise them."""
    capabilities: Mapping[str, int] = field(default_factory=dict)
    """All that each of the workers offers."""
    state: GroupState = GroupState.RUNNING
    request_id: str = ""
    """Of the request that started it, where that is known, so that a repeated one finds it even after a restart."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter can do. `max_worker_groups` -1 stands for no limit."""

    max_worker_groups: int
    workers_per_group: int
    base_capabilities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A group that somebody wants."""

    capabilities: Mapping[str, int] = field(default_factory=dict)
    """What its workers should offer besides the basic ones; value -1 where none was given."""
    request_id: str = ""
    """Keep it with the group if you can; empty where none was given."""


class WorkerAdapter(ABC):
    """One kind of machines. Methods may block; they are called from several threads at once.

    Errors to raise are the subclasses of `AdapterError`; anything else is answered as a failure to provision.
    """

    settings_class: ClassVar[type[WebhookSettings]] = WebhookSettings
    """The adapter is made with an instance of this, read from the command line and the TOML section it names."""

    @abstractmethod
    def __init__(self, settings: Any) -> None:
        """Prepare, and find what an earlier process of this adapter has started. Raises ServiceError."""

    @abstractmethod
    def info(self) -> AdapterInfo:
        """What this adapter can do. Called often: answer at once."""

    @abstractmethod
    def start(self, request: StartRequest) -> WorkerGroup:
        """Start a group and return it; a group that waits for machines may be returned as PENDING."""

    @abstractmethod
    def stop(self, group_id: str) -> None:
        """Stop a group and everything in it, what runs being given the chance to finish; return once it is gone."""

    @abstractmethod
    def list(self) -> Sequence[WorkerGroup]:
        """The groups that exist now, learnt from where they are rather than remembered."""

    def close(self) -> None:  # noqa: B027 - nothing to do is a good default
        """The adapter's process ends in good order. What should not outlive it is to be stopped here."""


class AdapterError(Exception):
    """A wish of the scheduler that is not fulfilled; `status` is the HTTP status of the answer.

    AdapterError
    ├── MalformedRequestError   400  do not repeat it
    ├── UnauthorizedError       401
    ├── UnknownGroupError       404
    ├── NoCapacityError         429  repeat it later
    └── ProvisioningError       500  repeat it, with growing pauses
    """

    status = 500


class MalformedRequestError(AdapterError):
    """The request says something that has no meaning, or that this adapter can never do."""

    status = 400


class UnauthorizedError(AdapterError):
    """The token is missing or another one."""

    status = 401


class UnknownGroupError(AdapterError):
    """There is no group of that id, or no more."""

    status = 404


class NoCapacityError(AdapterError):
    """As many workers as there may be exist already."""

    status = 429


class ProvisioningError(AdapterError):
    """The workers could not be started or stopped."""
