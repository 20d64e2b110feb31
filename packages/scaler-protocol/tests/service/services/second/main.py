"""The second of two services in one process."""

from __future__ import annotations

from noting_service import NotingService


class SecondService(NotingService):
    name = "second"


def service() -> SecondService:
    return SecondService()
