"""The worker adapter webhook of the OpenGRIS standard: one endpoint, three actions, over whatever starts the workers.

`create_application` is the HTTP side; a `WorkerGroupProvider` is the machine side. The standard's older words
(`start_worker`, `shutdown_worker`, `worker_id`) are understood and answered too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

logger = logging.getLogger(__name__)

REMEMBERED_REQUESTS_MAX = 1_000
"""How many answers are kept for requests that may be repeated; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Workers that were started together and are stopped together."""

    group_id: str
    worker_ids: tuple[str, ...]
    capabilities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter can do. `max_worker_groups` -1 stands for no limit."""

    max_worker_groups: int
    workers_per_group: int
    base_capabilities: Mapping[str, int]


class WorkerGroupProvider(Protocol):
    """Starts and stops groups of workers. Its methods may block; they are called from several threads.

    Errors are `UnknownGroupError`, `NoCapacityError` and `ProvisioningError`.
    """

    def info(self) -> AdapterInfo:
        """What this adapter can do."""

    def groups(self) -> Sequence[WorkerGroup]:
        """The groups that exist now."""

    def start_group(self, capabilities: Mapping[str, int]) -> WorkerGroup:
        """Starts a group whose workers offer these capabilities besides the basic ones; returns once it works."""

    def stop_group(self, group_id: str) -> None:
        """Stops a group and everything in it; returns once it is gone."""

    def stop_all(self) -> None:
        """Stops whatever exists, when the adapter itself ends."""


class AdapterError(Exception):
    """A wish of the scheduler that is not fulfilled; `status` is the HTTP status of the answer.

    AdapterError
    ├── MalformedRequestError   400  do not repeat it
    ├── UnknownGroupError       404
    ├── NoCapacityError         429  repeat it later
    └── ProvisioningError       500  repeat it, with growing pauses
    """

    status = 500


class MalformedRequestError(AdapterError):
    """The request says something that has no meaning."""

    status = 400


class UnknownGroupError(AdapterError):
    """There is no group of that id, or no more."""

    status = 404


class NoCapacityError(AdapterError):
    """As many workers as there may be exist already."""

    status = 429


class ProvisioningError(AdapterError):
    """The workers could not be started."""


class WebhookRequest(BaseModel):
    """The body of every request."""

    model_config = ConfigDict(extra="allow")

    action: str = Field(description="get_worker_adapter_info, start_worker_group or shutdown_worker_group")
    worker_group_id: str | None = Field(default=None, description="the group to shut down; when starting, ignored")
    worker_id: str | None = Field(default=None, description="older word for worker_group_id")
    capabilities: dict[str, int | None] | list[str] | None = Field(
        default=None, description="names, or names and values, that the workers of a new group should offer"
    )
    metadata: dict[str, Any] | None = Field(
        default=None, description="free; requests with the same request_id in it are one request"
    )
    auth_token: str | None = None

    def wanted_capabilities(self) -> dict[str, int]:
        """The capabilities as names and values, -1 where no value was given."""
        if self.capabilities is None:
            return {}
        if isinstance(self.capabilities, list):
            return dict.fromkeys(self.capabilities, -1)
        return {name: -1 if value is None else value for name, value in self.capabilities.items()}


Answer = dict[str, Any]


class _Webhook:
    """The three actions, each provisioning once however often its request is repeated."""

    def __init__(self, provider: WorkerGroupProvider) -> None:
        self._provider = provider
        self._remembered: OrderedDict[str, asyncio.Future[Answer]] = OrderedDict()
        self._actions: dict[str, Callable[[WebhookRequest], Answer]] = {
            "get_worker_adapter_info": self._get_info,
            "start_worker_group": self._start_group,
            "start_worker": self._start_group,
            "shutdown_worker_group": self._stop_group,
            "shutdown_worker": self._stop_group,
        }

    async def answer(self, request: WebhookRequest) -> Answer:
        """Performs the action in a thread, because starting and stopping takes time."""
        action = self._actions.get(request.action)
        if action is None:
            raise MalformedRequestError(f"unknown action {request.action!r}; known are {', '.join(self._actions)}")
        request_id = (request.metadata or {}).get("request_id")
        if request_id is None:
            return await asyncio.to_thread(action, request)
        key = f"{request.action} {request_id}"
        performing = self._remembered.get(key)
        if performing is None:
            performing = asyncio.ensure_future(asyncio.to_thread(action, request))
            self._remembered[key] = performing
            while len(self._remembered) > REMEMBERED_REQUESTS_MAX:
                self._remembered.popitem(last=False)
        try:
            # Shielded: the caller that gives up must not take the answer away from the one that asks again.
            return await asyncio.shield(performing)
        except AdapterError:
            # A refusal is not remembered: the same request may be fulfilled later.
            self._remembered.pop(key, None)
            raise

    def _get_info(self, _request: WebhookRequest) -> Answer:
        info = self._provider.info()
        return {
            "max_worker_groups": info.max_worker_groups,
            "workers_per_group": info.workers_per_group,
            "base_capabilities": dict(info.base_capabilities),
        }

    def _start_group(self, request: WebhookRequest) -> Answer:
        group = self._provider.start_group(request.wanted_capabilities())
        logger.info("started group %s: %s", group.group_id, ", ".join(group.worker_ids))
        return {"status": "success", **_described(group)}

    def _stop_group(self, request: WebhookRequest) -> Answer:
        group_id = request.worker_group_id or request.worker_id
        if group_id is None:
            raise MalformedRequestError(f"{request.action} needs worker_group_id")
        self._provider.stop_group(group_id)
        logger.info("stopped group %s", group_id)
        return {"status": "success", "worker_group_id": group_id, "worker_id": group_id}


def _described(group: WorkerGroup) -> Answer:
    return {
        "worker_group_id": group.group_id,
        "worker_id": group.group_id,
        "worker_ids": list(group.worker_ids),
        "capabilities": dict(group.capabilities),
    }


def create_application(provider: WorkerGroupProvider) -> FastAPI:
    """The webhook over this provider, whose groups are stopped when the application ends."""
    webhook = _Webhook(provider)

    @contextlib.asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(provider.stop_all)

    application = FastAPI(title="Scaler worker adapter", lifespan=lifespan)

    @application.exception_handler(AdapterError)
    async def refuse(_request: Request, error: AdapterError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status)

    @application.exception_handler(RequestValidationError)
    async def refuse_malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        places = (f"{'.'.join(map(str, detail['loc'][1:]))}: {detail['msg']}" for detail in error.errors())
        return JSONResponse({"error": "; ".join(places)}, MalformedRequestError.status)

    @application.post("/", summary="Perform one action of the OpenGRIS worker adapter standard")
    async def perform(request: WebhookRequest) -> Answer:
        return await webhook.answer(request)

    @application.get("/", summary="What this adapter can do, and the groups that exist")
    async def overview() -> Answer:
        info, groups = provider.info(), await asyncio.to_thread(provider.groups)
        return {
            "max_worker_groups": info.max_worker_groups,
            "workers_per_group": info.workers_per_group,
            "base_capabilities": dict(info.base_capabilities),
            "worker_groups": [_described(group) for group in groups],
        }

    @application.get("/healthz", summary="Whether this adapter answers")
    async def health() -> Answer:
        return {"status": "ok"}

    return application
