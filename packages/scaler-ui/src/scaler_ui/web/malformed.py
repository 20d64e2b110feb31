"""Requests whose values are impossible: one sentence for each value, as text, without the value."""

from __future__ import annotations

import json

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError


def add_malformed_answer(application: FastAPI) -> None:
    """Answer malformed requests so. FastAPI's own answer repeats the value, and fails where UTF-8 cannot hold it."""

    @application.exception_handler(RequestValidationError)
    async def refuse_malformed(_request: Request, error: RequestValidationError) -> Response:
        reasons = []
        for detail in error.errors():
            place = ".".join(str(part) for part in detail["loc"][1:])
            reasons.append(f"{place}: {detail['msg']}" if place else str(detail["msg"]))
        return Response(json.dumps({"detail": "; ".join(reasons)}), 422, media_type="application/json")
