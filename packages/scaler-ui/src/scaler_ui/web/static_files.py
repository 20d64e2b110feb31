"""Pages, scripts and styles, under an address that changes with any of them: a browser that has them need not ask again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

FRESH = "no-cache"
"""Browsers keep it, but ask each time whether it has changed."""

KEPT = "private, max-age=31536000, immutable"
"""Browsers keep it for themselves, and do not ask."""

_VERSION_DIGITS = 16
_VERSION = re.compile(rf"[0-9a-f]{{{_VERSION_DIGITS}}}")


class PageFiles(StaticFiles):
    """The files of a folder, at `/static/NAME`, and at `/static/VERSION/NAME` where the version is of all of them together.

    After an upgrade, pages that are open still ask for the version before: they get what is there now, and ask each time.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        self._folder = folder
        content = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            content.update(path.read_bytes())
        self._version = content.hexdigest()[:_VERSION_DIGITS]

    def page(self, name: str) -> str:
        """Return a page that asks for its files in this version. Scripts get those that they import in the same one."""
        text = (self._folder / name).read_text(encoding="utf-8")
        return text.replace('"/static/', f'"/static/{self._version}/')

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file. `path` is what follows `/static/`. Raises HTTPException for what is not there."""
        version, _, rest = path.partition("/")
        is_versioned = bool(rest) and _VERSION.fullmatch(version) is not None
        response = await super().get_response(rest if is_versioned else path, scope)
        response.headers["cache-control"] = KEPT if is_versioned and version == self._version else FRESH
        return response
