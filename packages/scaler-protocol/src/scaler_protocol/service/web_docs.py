"""Pages that show the OpenAPI description of a web service, without anything from another machine and without inline scripts.

The viewer, Swagger UI, comes with the package fastapi-offline, which web services require.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

_ASSETS_PACKAGE = "fastapi_offline"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scaler · API</title>
<link rel="icon" href="{base}/assets/favicon.png">
<link rel="stylesheet" href="{base}/assets/swagger-ui.css">
<script src="{base}/assets/swagger-ui-bundle.js" defer></script>
<script src="{base}/start.js" defer></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""

_START = """SwaggerUIBundle({{
  url: {openapi}, dom_id: "#swagger-ui", validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout", deepLinking: true,
}});
"""


def _nobody_is_refused(_request: Request) -> None:
    pass


def add_docs(
    application: FastAPI,
    *,
    base: str = "/docs",
    openapi: str = "/openapi.json",
    authorize: Callable[[Request], Any] = _nobody_is_refused,
) -> None:
    """Serve the viewer at `base` and the description at `openapi`.

    Make the application with `docs_url=None, redoc_url=None, openapi_url=None`. `authorize` gets the request and
    raises an exception to refuse a caller. The viewer's own files are open: everybody can get them from its publisher.
    """

    assets = _assets()

    @application.get(base, include_in_schema=False)
    async def show_docs(request: Request) -> Response:
        authorize(request)
        if assets is None:
            return PlainTextResponse(f"this page needs the package fastapi-offline; {openapi} does not\n", 501)
        return HTMLResponse(_PAGE.format(base=base))

    @application.get(f"{base}/start.js", include_in_schema=False)
    async def start_viewer() -> Response:
        return Response(_START.format(openapi=json.dumps(openapi)), media_type="text/javascript")

    @application.get(openapi, include_in_schema=False)
    async def show_description(request: Request) -> Response:
        authorize(request)
        return Response(json.dumps(application.openapi()), media_type="application/json")

    if assets is not None:
        application.mount(f"{base}/assets", StaticFiles(directory=assets), name="docs-assets")


def _assets() -> Path | None:
    """Return the folder with the viewer's files, or None without the package. Its Python code is not needed, so not imported."""
    found = importlib.util.find_spec(_ASSETS_PACKAGE)
    return None if found is None or found.origin is None else Path(found.origin).with_name("static")
