"""Requests to pages and adapters that tests have started: `httpx.get` and `httpx.post` without certificates.

Nothing is encrypted there. To load what httpx would check certificates with takes 40 ms of processor time for each request,
and tests that wait for what a page says make many.
"""

from __future__ import annotations

from functools import partial

import httpx

SECONDS = 30.0
"""So long an answer may take on a loaded machine."""

get = partial(httpx.get, verify=False, timeout=SECONDS)
post = partial(httpx.post, verify=False, timeout=SECONDS)
