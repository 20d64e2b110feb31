"""The first of two services in one process."""

from __future__ import annotations

from noting_service import NotingService


class FirstService(NotingService):
    name = "first"


def service() -> FirstService:
    return FirstService()
