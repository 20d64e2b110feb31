"""The one request that changes something: `POST /api/cancel`.

`WebGuard` refuses it from pages of other sites, `AccessControl` from strangers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from scaler_protocol.runtime.counted import counted
from scaler_protocol.service.web_access import address_of
from scaler_protocol.wire.messages import CancelRequest
from scaler_ui.cancellation import CancellationRefusedError, NoAnswerError, Operator
from scaler_ui.feed import MonitorFeed

logger = logging.getLogger(__name__)

CANCELLATIONS_MAX = 4
"""Requests that wait for the scheduler at once. Each has a thread of the event loop's, which has five at least."""


class CancelBody(BaseModel):
    """Which tasks: those that fit everything that is named."""

    # A misspelt or empty `number` must not stand for all tasks of a client.
    model_config = ConfigDict(extra="forbid")

    client: Annotated[str, Field(max_length=32, pattern="^([0-9a-f]{32})?$")] = ""
    number: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    function: Annotated[str, Field(max_length=1_000)] = ""
    label: Annotated[str, Field(max_length=1_000)] = ""


class Canceled(BaseModel):
    """How many tasks were cancelled, or told to stop."""

    canceled: int


def add_cancel_route(application: FastAPI, feed: MonitorFeed, operator: Operator) -> None:
    """Add the request."""
    answers: dict[int | str, dict[str, Any]] = {
        403: {"description": "The scheduler, or this service, may not cancel tasks; the text says why"},
        415: {"description": "The request is no JSON"},
        503: {"description": "The scheduler does not answer, or too many requests wait for its answer already"},
    }
    running: set[asyncio.Task[int]] = set()

    @application.post(
        "/api/cancel",
        summary="Cancel a task, or all unfinished tasks of a client, a function or a label; their clients are told",
        responses=answers,
    )
    async def cancel(request: Request, which: CancelBody) -> Canceled:
        # A form of another site cannot send this type, also from a browser that does not say where it comes from.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "send application/json")
        for name in which.model_fields_set:
            if getattr(which, name) in ("", None):
                raise HTTPException(422, f"{name} is empty: leave it out, and tasks of any {name} are meant")
        if not (which.client or which.function or which.label):
            raise HTTPException(422, "name a client, a function or a label")
        if which.number is not None and not which.client:
            raise HTTPException(422, "a task's number needs its client")
        with feed.model() as model:
            snapshot = model.snapshot
        numbers = () if which.number is None else (which.number,)
        wanted = CancelRequest(0, bytes.fromhex(which.client), numbers, which.function, which.label)
        if len(running) >= CANCELLATIONS_MAX:
            raise HTTPException(
                503,
                f"{len(running)} other requests to cancel tasks wait for the scheduler's answer: nothing was cancelled by this "
                "one, try again once they have ended, or look whether the scheduler is there",
                headers={"Retry-After": "5"},
            )
        task = asyncio.create_task(asyncio.to_thread(operator.cancel, snapshot, str(feed.monitor_address), wanted))
        running.add(task)
        task.add_done_callback(running.discard)
        try:
            # The thread goes on where whoever asked has left.
            count = await asyncio.shield(task)
        except CancellationRefusedError as error:
            raise HTTPException(403, str(error)) from None
        except NoAnswerError as error:
            raise HTTPException(503, str(error)) from None
        named = ", ".join(f"{name} {value!r}" for name, value in which.model_dump(exclude_unset=True).items())
        logger.info("%s has had %s cancelled: those of %s", address_of(request.scope), counted(count, "task"), named)
        return Canceled(canceled=count)
