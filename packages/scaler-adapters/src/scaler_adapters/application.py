"""The worker adapter webhook of the OpenGRIS standard: one endpoint, three actions, over any `WorkerAdapter`.

The standard's older names (`start_worker`, `shutdown_worker`, `worker_id`) work too. A request with a `request_id` in its
metadata is performed once, however often it is repeated. If it takes long, it is answered with 202; repeating it, or asking
`GET /requests/{request_id}`, returns its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from scaler_adapters.adapter import (
    AdapterError,
    MalformedRequestError,
    NoCapacityError,
    ProvisioningError,
    StartRequest,
    UnauthorizedError,
    UnknownGroupError,
    WorkerAdapter,
    WorkerGroup,
)
from scaler_protocol.capabilities import CapabilitiesError, format_capabilities, parse_capabilities
from scaler_protocol.runtime.resources import NAMES_MAX, ONE, ResourcesError, parse_amounts
from scaler_protocol.service.web_access import HostNames, WebGuard, address_of, basic_password, bearer_token
from scaler_protocol.service.web_docs import add_docs
from scaler_protocol.service.web_tokens import TokenCheck, Verdict

logger = logging.getLogger(__name__)

REMEMBERED_REQUESTS_MAX = 1_000
"""How many answers are kept for repeated requests. The oldest are forgotten first."""

ANSWER_SECONDS = 5.0
"""A request with an id that takes longer than this is answered with 202."""

ACTIONS_MAX = 32
"""Most groups that are started or stopped at the same time. Further requests are refused with 429."""

QUESTIONS_MAX = 4
QUESTION_SECONDS = 10.0
"""How long the adapter may take to list its groups."""

CLOSE_SECONDS = 60.0

NAME_LENGTH_MAX = 200
CAPABILITIES_MAX = 100

ShortText = Annotated[str, Field(max_length=NAME_LENGTH_MAX)]
Answer = dict[str, Any]
Result = TypeVar("Result")


class WebhookRequest(BaseModel):
    """The body of every request."""

    model_config = ConfigDict(extra="allow")

    action: ShortText = Field(description="get_worker_adapter_info, start_worker_group or shutdown_worker_group")
    worker_group_id: ShortText | None = Field(default=None, description="the group to shut down; ignored when starting")
    worker_id: ShortText | None = Field(default=None, description="older name of worker_group_id")
    capabilities: dict[ShortText, int | None] | list[ShortText] | None = Field(
        default=None,
        max_length=CAPABILITIES_MAX,
        description="capabilities that the workers of a new group should offer: names, or names and values",
    )
    resources: dict[ShortText, int | float | str] | None = Field(
        default=None,
        max_length=NAMES_MAX,
        description="what the host of a new group should have of counted resources, memory in bytes: those that "
        "get_worker_adapter_info names in sized_resources",
    )
    metadata: dict[str, Any] | None = Field(
        default=None, description="any object; requests with the same request_id in it count as one request"
    )
    auth_token: str | None = Field(default=None, description="or as a header: Authorization: Bearer TOKEN")

    def wanted_capabilities(self) -> dict[str, int]:
        """Return the capabilities as names and values, -1 if no value was given. Raises MalformedRequestError."""
        if self.capabilities is None:
            return {}
        pairs = (
            dict.fromkeys(self.capabilities, -1)
            if isinstance(self.capabilities, list)
            else {name: -1 if value is None else value for name, value in self.capabilities.items()}
        )
        try:
            if parse_capabilities(format_capabilities(pairs)) == pairs:
                return pairs
        except CapabilitiesError as error:
            raise MalformedRequestError(str(error)) from None
        raise MalformedRequestError(f"capabilities {list(pairs)} are not plain names")

    def wanted_resources(self) -> dict[str, float]:
        """Return the amounts of counted resources. Raises MalformedRequestError."""
        try:
            amounts = parse_amounts(self.resources or {})
        except ResourcesError as error:
            raise MalformedRequestError(str(error)) from None
        return {name: amount / ONE if amount % ONE else amount // ONE for name, amount in amounts}

    def request_id(self) -> str:
        """The id under which this request may be repeated; empty if it has none."""
        request_id = (self.metadata or {}).get("request_id", "")
        if not isinstance(request_id, str | int) or len(str(request_id)) > NAME_LENGTH_MAX:
            raise MalformedRequestError(f"metadata.request_id must be a text of up to {NAME_LENGTH_MAX} characters")
        return str(request_id)


class _Pending(Exception):
    """The request is still being performed: ask again."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id


class _TooManyGuessesError(AdapterError):
    """Too many wrong tokens came from the caller's address."""

    status = 429

    def __init__(self, wait_s: float) -> None:
        self.retry_after_s = int(wait_s) + 1
        super().__init__(f"too many wrong tokens came from this address; try again in {self.retry_after_s} s")


class _Webhook:
    """Performs the three actions, each once, however often its request is repeated."""

    def __init__(self, adapter: WorkerAdapter, token: str | None, answer_s: float) -> None:
        self._adapter = adapter
        self._tokens = None if token is None else TokenCheck(token)
        self._answer_s = answer_s
        self._performed: OrderedDict[str, asyncio.Future[Answer]] = OrderedDict()
        self._recovered: dict[str, WorkerGroup] | None = None
        """Groups that existed when this process started, by the request that started them; None: not known yet."""
        self._busy = 0
        self._doing = ThreadPoolExecutor(ACTIONS_MAX, "adapter-action")
        self._asking = ThreadPoolExecutor(QUESTIONS_MAX, "adapter-question")
        self._actions: dict[str, Callable[[WebhookRequest], Answer]] = {
            "start_worker_group": self._start,
            "start_worker": self._start,
            "shutdown_worker_group": self._stop,
            "shutdown_worker": self._stop,
        }

    def authorize(self, token: str | None, header: str | None, address: str) -> None:
        if self._tokens is None:
            return
        given = token if token is not None else bearer_token(header)
        # Who sends no token does not guess.
        verdict = self._tokens.check(given, address) if given else Verdict(False)
        if verdict.wait_s:
            raise _TooManyGuessesError(verdict.wait_s)
        if not verdict.right:
            raise UnauthorizedError("this adapter needs a token: auth_token, or Authorization: Bearer")

    async def answer(self, request: WebhookRequest) -> Answer:
        """Perform the action in a thread, because starting and stopping takes time."""
        if request.action == "get_worker_adapter_info":
            return self.info()
        action = self._actions.get(request.action)
        if action is None:
            known = ", ".join(["get_worker_adapter_info", *self._actions])
            raise MalformedRequestError(f"unknown action {request.action!r}; known are {known}")
        request_id = request.request_id()
        if not request_id:
            return await self._do(action, request)
        performing = self._performed.get(request_id)
        if performing is None:
            self._make_room()
            performing = asyncio.ensure_future(self._do(action, request))
            # Log a failure here, because the caller may never ask for it.
            performing.add_done_callback(lambda done: None if done.cancelled() else done.exception())
            self._performed[request_id] = performing
        # Wait without cancelling: if this caller gives up, the next one still needs the answer.
        done, _ = await asyncio.wait([performing], timeout=self._answer_s)
        if not done:
            raise _Pending(request_id)
        return self._take(request_id, performing)

    def look_up(self, request_id: str) -> Answer:
        """Return the result of an earlier request."""
        performing = self._performed.get(request_id)
        if performing is None:
            error = AdapterError(f"no request {request_id!r} is known")
            error.status = 404
            raise error
        if not performing.done():
            raise _Pending(request_id)
        return self._take(request_id, performing)

    def _take(self, request_id: str, performed: asyncio.Future[Answer]) -> Answer:
        try:
            return performed.result()
        except AdapterError:
            # Refusals are not stored, because the same request may succeed later.
            self._performed.pop(request_id, None)
            raise

    def _make_room(self) -> None:
        if len(self._performed) < REMEMBERED_REQUESTS_MAX:
            return
        for request_id, performed in self._performed.items():
            if performed.done():
                del self._performed[request_id]
                return
        raise NoCapacityError(f"{REMEMBERED_REQUESTS_MAX} requests are under way")

    async def _do(self, action: Callable[[WebhookRequest], Answer], request: WebhookRequest) -> Answer:
        if self._busy >= ACTIONS_MAX:
            raise NoCapacityError(f"{ACTIONS_MAX} groups are being started or stopped; try again later")
        self._busy += 1
        try:
            if self._recovered is None and action == self._start:
                groups = await self._ask(self._adapter.list)
                self._recovered = {group.request_id: group for group in groups if group.request_id}
            return await asyncio.get_running_loop().run_in_executor(self._doing, action, request)
        except UnknownGroupError as error:
            # Workers that a scheduler has drained end by themselves, often before it asks for their end.
            logger.info("%s: %s (it has ended already)", request.action, error)
            raise
        except AdapterError as error:
            logger.warning("%s: %s", request.action, error)
            raise
        except Exception as error:
            # An adapter may be anybody's code. Whatever it raises is answered, and logged in full.
            logger.exception("%s failed", request.action)
            raise ProvisioningError(f"{type(error).__name__}: {error}") from error
        finally:
            self._busy -= 1

    async def _ask(self, question: Callable[[], Result]) -> Result:
        asked = asyncio.get_running_loop().run_in_executor(self._asking, question)
        try:
            return await asyncio.wait_for(asked, QUESTION_SECONDS)
        except TimeoutError:
            raise ProvisioningError(f"no answer from the machines within {QUESTION_SECONDS:g} s") from None

    def info(self) -> Answer:
        info = self._adapter.info()
        return {
            "max_worker_groups": info.max_worker_groups,
            "workers_per_group": info.workers_per_group,
            "base_capabilities": dict(info.base_capabilities),
            **({"sized_resources": list(info.sized_resources)} if info.sized_resources else {}),
        }

    async def overview(self) -> Answer:
        return {
            **self.info(),
            "worker_groups": [_described(group) for group in await self._ask(self._adapter.list)],
        }

    def _start(self, request: WebhookRequest) -> Answer:
        wanted = request.wanted_capabilities()
        request_id = request.request_id()
        group = (self._recovered or {}).pop(request_id, None) if request_id else None
        if group is None:
            group = self._adapter.start(StartRequest(wanted, request_id, request.wanted_resources()))
            logger.info("started group %s: %s", group.group_id, ", ".join(group.worker_ids))
        return {"status": "success", **_described(group)}

    def _stop(self, request: WebhookRequest) -> Answer:
        group_id = request.worker_group_id or request.worker_id
        if group_id is None:
            raise MalformedRequestError(f"{request.action} needs worker_group_id")
        self._adapter.stop(group_id)
        logger.info("stopped group %s", group_id)
        return {"status": "success", "worker_group_id": group_id, "worker_id": group_id}

    async def close(self) -> None:
        closing = asyncio.get_running_loop().run_in_executor(self._asking, self._adapter.close)
        try:
            await asyncio.wait_for(closing, CLOSE_SECONDS)
        except TimeoutError:
            logger.error("the groups of this adapter have not ended after %g s", CLOSE_SECONDS)
        except AdapterError as error:
            logger.error("the groups of this adapter could not be stopped: %s", error)
        for pool in (self._doing, self._asking):
            pool.shutdown(wait=False, cancel_futures=True)


def _described(group: WorkerGroup) -> Answer:
    return {
        "worker_group_id": group.group_id,
        "worker_id": group.group_id,
        "worker_ids": list(group.worker_ids),
        "capabilities": dict(group.capabilities),
        "state": group.state.value,
    }


def create_application(
    adapter: WorkerAdapter,
    *,
    token: str | None = None,
    hosts: HostNames | None = None,
    answer_s: float = ANSWER_SECONDS,
) -> FastAPI:
    """Return the webhook of this adapter. It closes the adapter when the application ends.

    `token`: the token that callers must send; None: they need none. `hosts`: host names under which requests are accepted;
    None: this machine's. `answer_s`: seconds after which a request is answered with 202.
    """
    webhook = _Webhook(adapter, token, answer_s)

    @contextlib.asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        yield
        await webhook.close()

    application = FastAPI(
        title="Scaler worker adapter", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )

    def authorize_reader(caller: Request) -> None:
        header = caller.headers.get("authorization")
        webhook.authorize(basic_password(header) or None, header, address_of(caller.scope))

    add_docs(application, authorize=authorize_reader)
    application.add_middleware(WebGuard, hosts=hosts or HostNames())

    @application.exception_handler(AdapterError)
    async def refuse(_request: Request, error: AdapterError) -> JSONResponse:
        # Browsers ask their user for a password then, which is the token: for the OpenAPI page.
        asks = {"WWW-Authenticate": 'Bearer, Basic realm="the token as password"'}
        headers = asks if error.status == UnauthorizedError.status else {}
        if isinstance(error, _TooManyGuessesError):
            headers = {"Retry-After": str(error.retry_after_s)}
        return JSONResponse({"error": str(error)}, error.status, headers)

    @application.exception_handler(_Pending)
    async def put_off(_request: Request, pending: _Pending) -> JSONResponse:
        poll = f"/requests/{pending.request_id}"
        body = {"status": "pending", "request_id": pending.request_id, "poll": poll}
        return JSONResponse(body, 202, headers={"Location": poll, "Retry-After": "1"})

    @application.exception_handler(RequestValidationError)
    async def refuse_malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        places = (f"{'.'.join(map(str, detail['loc'][1:]))}: {detail['msg']}" for detail in error.errors())
        return JSONResponse({"error": "; ".join(places)}, MalformedRequestError.status)

    responses: Mapping[int | str, dict[str, Any]] = {
        202: {"description": "Accepted and not finished: repeat the request, or get the address in `poll`"},
        **{status: {"description": text} for status, text in _ERRORS.items()},
    }

    @application.post(
        "/", summary="Perform one action of the OpenGRIS worker adapter standard", responses=dict(responses)
    )
    async def perform(
        request: WebhookRequest, caller: Request, authorization: Annotated[str | None, Header()] = None
    ) -> Answer:
        webhook.authorize(request.auth_token, authorization, address_of(caller.scope))
        return await webhook.answer(request)

    @application.get("/", summary="Return what this adapter can do, and the groups that exist")
    async def overview(caller: Request, authorization: Annotated[str | None, Header()] = None) -> Answer:
        webhook.authorize(None, authorization, address_of(caller.scope))
        return await webhook.overview()

    @application.get("/requests/{request_id}", summary="Return the result of a request", responses=dict(responses))
    async def look_up(
        request_id: str, caller: Request, authorization: Annotated[str | None, Header()] = None
    ) -> Answer:
        webhook.authorize(None, authorization, address_of(caller.scope))
        return webhook.look_up(request_id)

    @application.get("/healthz", summary="Return 200 while this adapter runs")
    async def health() -> Answer:
        return {"status": "ok"}

    return application


_ERRORS = {
    400: "Malformed, an unknown action, or something this adapter can never do: do not repeat it",
    401: "The token is missing or wrong",
    404: "There is no such group or request",
    429: "No capacity: repeat it later",
    500: "Provisioning failed: repeat it, with growing pauses",
}
