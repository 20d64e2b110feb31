"""`scaler_ui` as a web service: one page, and the data it shows as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from scaler_protocol.service.web import run_application
from scaler_ui.feed import SnapshotFeed
from scaler_ui.view import snapshot_data
from scaler_ui.web.settings import WebSettings

PAGE = Path(__file__).with_name("page.html")


def create_application(feed: SnapshotFeed) -> FastAPI:
    """The page at `/`, its data at `/api/snapshot`, and `/healthz`."""
    application = FastAPI(title="Scaler")
    page = PAGE.read_text(encoding="utf-8")

    @application.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> str:
        return page

    @application.get("/api/snapshot", summary="The scheduler's last snapshot, null before the first one came")
    async def show_snapshot() -> dict[str, Any]:
        state = feed.state()
        return {
            "age_seconds": state.age_s,
            "missed_messages": state.missed_messages,
            "snapshot": None if state.snapshot is None else snapshot_data(state.snapshot),
        }

    @application.get("/healthz", summary="Whether this service answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return application


def run(settings: WebSettings) -> int:
    """Serves the page until it is asked to stop."""
    with SnapshotFeed(settings.monitor_address) as feed:
        return run_application(create_application(feed), settings.host, settings.port, role="webui")
