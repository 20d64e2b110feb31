"""The interface of a worker adapter: a class that starts, stops and lists groups of workers on one kind of machine.

The webhook around it (`scaler_adapters.application`) handles HTTP, tokens, limits and repeated requests. `docs/adapters.md`
shows how to write an adapter. Adapters are found by their entry point in the group `ENTRY_POINTS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from scaler_adapters.webhook_settings import WebhookSettings

ENTRY_POINTS = "scaler.worker_adapters"
"""The group of entry points; each names a subclass of `WorkerAdapter`."""


class GroupState(Enum):
    """The state of a group, as far as the adapter knows."""

    PENDING = "pending"
    """It waits for its machines, so its workers cannot register yet."""
    RUNNING = "running"
    """Its workers run, or are about to."""
    ENDING = "ending"
    """Its machines go away soon: the scheduler should let its workers finish and leave."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Workers that were started together and are stopped together."""

    group_id: str
    worker_ids: tuple[str, ...]
    """The names under which the workers register. The scheduler recognises them by these only."""
    capabilities: Mapping[str, int] = field(default_factory=dict)
    """All capabilities that each of the workers offers."""
    state: GroupState = GroupState.RUNNING
    request_id: str = ""
    """The id of the request that started it, if known. A repeated request finds the group by it, even after a restart."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter can do. `max_worker_groups` is -1 if there is no limit."""

    max_worker_groups: int
    workers_per_group: int
    base_capabilities: Mapping[str, int]
    sized_resources: Sequence[str] = ()
    """The counted resources of which the host of a group gets as much as `StartRequest.resources` says."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A request to start a group."""

    capabilities: Mapping[str, int] = field(default_factory=dict)
    """The capabilities its workers should offer besides the basic ones. The value is -1 if none was given."""
    request_id: str = ""
    """The id of the request; empty if it has none. Store it with the group if you can."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What its host should have at least of `sized_resources`, so that waiting tasks can run there. Memory is in bytes."""


class WorkerAdapter(ABC):
    """Base class of adapters, one for each kind of machine. Methods may block. They are called from several threads at once.

    Raise subclasses of `AdapterError`. Any other exception is answered like a `ProvisioningError`.
    """

    settings_class: ClassVar[type[WebhookSettings]] = WebhookSettings
    """The class of its settings. They are read from the command line and the TOML section, and passed to the constructor."""

    @abstractmethod
    def __init__(self, settings: Any) -> None:
        """Prepare, and find the groups that an earlier process of this adapter has started. Raises ServiceError."""

    @abstractmethod
    def info(self) -> AdapterInfo:
        """Return what this adapter can do. It is called often, so answer at once."""

    @abstractmethod
    def start(self, request: StartRequest) -> WorkerGroup:
        """Start a group and return it. Return it as PENDING if it waits for machines."""

    @abstractmethod
    def stop(self, group_id: str) -> None:
        """Stop a group, giving running tasks a chance to finish. Return when all its workers have ended."""

    @abstractmethod
    def list(self) -> Sequence[WorkerGroup]:
        """Return the groups that exist now. Ask the machines for them; do not rely on memory."""

    def close(self) -> None:  # noqa: B027 - nothing to do is a good default
        """Stop the groups that should not outlive the adapter. Called when its process ends in an orderly way."""


class AdapterError(Exception):
    """A request that fails. `status` is the HTTP status of the answer.

    AdapterError
    ├── MalformedRequestError   400  do not repeat it
    ├── UnauthorizedError       401
    ├── UnknownGroupError       404
    ├── NoCapacityError         429  repeat it later
    └── ProvisioningError       500  repeat it, with growing pauses
    """

    status = 500


class MalformedRequestError(AdapterError):
    """The request is malformed, or asks for something that this adapter can never do."""

    status = 400


class UnauthorizedError(AdapterError):
    """The token is missing or wrong."""

    status = 401


class UnknownGroupError(AdapterError):
    """There is no group with that id."""

    status = 404


class NoCapacityError(AdapterError):
    """The limit of workers is reached, or there are no machines now."""

    status = 429


class ProvisioningError(AdapterError):
    """The workers could not be started or stopped."""
