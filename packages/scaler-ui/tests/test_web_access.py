"""What becomes of answers that are under way when their session ends."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from scaler_ui.web.access import SIGN_IN, SIGN_OUT, AccessControl

TOKEN = "s3cret"


class Site:
    """An application that sends the beginning of an answer, and the rest when it may."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.access = AccessControl(self, TOKEN)
        self.cookie = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"da", "more_body": True})
        self.has_begun.set()
        await self.may_end.wait()
        await send({"type": "http.response.body", "body": b"ta", "more_body": False})

    async def request(self, method: str, path: str, body: bytes = b"") -> list[Any]:
        """Return what is answered."""
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"cookie", self.cookie), (b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
        }
        await self.access(scope, receive, send)
        return sent

    async def sign_in(self) -> None:
        start, *_ = await self.request("POST", SIGN_IN, urlencode({"token": TOKEN}).encode())
        self.cookie = dict(start["headers"])[b"set-cookie"].partition(b";")[0]


@pytest.mark.parametrize("has_length", [True, False])
def test_only_what_has_no_end_of_its_own_ends_with_the_session(has_length: bool) -> None:
    async def visit() -> tuple[bytes, bool]:
        site = Site([(b"content-length", b"4")] if has_length else [])
        await site.sign_in()
        answering = asyncio.create_task(site.request("GET", "/file"))
        async with asyncio.timeout(10):
            await site.has_begun.wait()
            await site.request("POST", SIGN_OUT)
            if not has_length:
                await asyncio.wait([answering])
            site.may_end.set()
            sent = await answering
        return b"".join(message.get("body", b"") for message in sent), sent[-1]["more_body"]

    assert asyncio.run(visit()) == (b"data" if has_length else b"da", False)
