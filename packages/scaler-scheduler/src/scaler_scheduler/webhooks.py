"""Calls to worker adapters over HTTP. Nothing an adapter does delays the scheduler's event loop.

Each call is a task with a limit on its whole duration, on the size of its answer, and on how many there are. What becomes of
it comes back as an event. Redirects are not followed and proxies of the environment not used: the URL given is the one asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.private_files import require_private
from scaler_protocol.service.errors import ConfigurationError
from scaler_scheduler.core import effects, events

ANSWER_BYTES_MAX = 2 * 1024 * 1024
"""Size of the longest answer. A list of ten thousand groups fits."""

CALLS_MAX = 128
"""Largest number of calls at a time. The core asks for fewer."""

STOP_SECONDS = 1.0
"""How long calls may take to end after they are cancelled."""

Report = Callable[[events.WebhookAnswered | events.WebhookFailed], None]


class Webhooks:
    """Performs `CallWebhook` effects on the running event loop. `report` is called there, once for each."""

    def __init__(self, report: Report, token: str | None = None, authorities: ssl.SSLContext | None = None) -> None:
        """`authorities`: whose certificates are accepted for https; None: those of the public authorities."""
        # It would log every call. The core logs what matters.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._report = report
        self._token = token
        self._tasks: set[asyncio.Task[None]] = set()
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.AsyncClient(
            headers=headers,
            follow_redirects=False,
            trust_env=False,
            verify=True if authorities is None else authorities,
            timeout=None,  # the whole call has a limit, which those of its parts could only exceed
            limits=httpx.Limits(max_connections=CALLS_MAX, max_keepalive_connections=16),
        )

    def call(self, effect: effects.CallWebhook) -> None:
        """Start a call and return at once."""
        if len(self._tasks) >= CALLS_MAX:
            self._report(events.WebhookFailed(effect.call, f"{CALLS_MAX} calls are under way already"))
            return
        task = asyncio.create_task(self._perform(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all calls, without events."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        await self._client.aclose()

    async def _perform(self, effect: effects.CallWebhook) -> None:
        try:
            async with asyncio.timeout(effect.timeout_s):
                event = await self._ask(effect)
        except TimeoutError:
            self._report(events.WebhookFailed(effect.call, f"no answer within {effect.timeout_s:g} s"))
        except Exception as error:
            # Any exception must end this call for the core, such as OverflowError for a port.
            self._report(events.WebhookFailed(effect.call, f"{type(error).__name__}: {error}"[:500]))
        else:
            self._report(event)

    async def _ask(self, effect: effects.CallWebhook) -> events.WebhookAnswered | events.WebhookFailed:
        body: dict[str, object] | None = None
        if effect.body is not None:
            body = dict(effect.body) if self._token is None else {**effect.body, "auth_token": self._token}
        request = self._client.build_request("GET" if body is None else "POST", effect.url, json=body)
        response = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > ANSWER_BYTES_MAX:
                    return events.WebhookFailed(effect.call, f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
        finally:
            await response.aclose()
        return events.WebhookAnswered(effect.call, response.status_code, _parsed(bytes(content)))


def open_webhooks(token_file: Path | None, authorities_file: Path | None, report: Report) -> Webhooks:
    """Return calls with the token and the authorities of these files. Raises ConfigurationError if one cannot be used."""
    try:
        token = read_token(token_file)
    except (OSError, ValueError, SecurityFileError) as error:
        raise ConfigurationError(f"--adapter-webhook-token-file: {error}") from None
    try:
        authorities = read_authorities(authorities_file)
    except OSError as error:
        raise ConfigurationError(f"--adapter-webhook-ca-file: cannot use {authorities_file}: {error}") from None
    return Webhooks(report, token, authorities)


def read_token(path: Path | None) -> str | None:
    """Return the token in a file, or None without a file. Raises OSError, ValueError or SecurityFileError."""
    if path is None:
        return None
    require_private(path)
    token = path.read_text(encoding="utf-8").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError(f"{path} holds no token: one line of printable ASCII characters is expected")
    return token


def read_authorities(path: Path | None) -> ssl.SSLContext | None:
    """Return what accepts the certificates in a file, or None without a file. Raises OSError (so does a wrong file)."""
    return None if path is None else ssl.create_default_context(cafile=path)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
