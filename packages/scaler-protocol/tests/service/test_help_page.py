"""The page that `-h` prints: sections by purpose, own options first, examples last."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from scaler_protocol.runtime.counted import counted
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.help_page import OWN, WITHOUT_EFFECT, section_of
from scaler_protocol.service.settings import AddressSetting, CliPositionalArg, Short


class _Inherited(EventLoopSettings):
    chime: str = Field(default="gong", description="what sounds")


class BellSettings(_Inherited):
    """Rings."""

    command: ClassVar[str] = "scaler_bell"
    section: ClassVar[str] = "bell"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (("scaler_bell tcp://127.0.0.1:1 -r 3", "three times"),)

    address: CliPositionalArg[AddressSetting] = Field(description="where")
    worker_timeout_seconds: float = Field(default=1, description="how long")
    storage_path: str = Field(default="", description="a folder")
    rings: Annotated[int, Short("r")] = Field(default=1, description="how often")


def test_own_options_come_first_and_examples_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = BellSettings.parser().format_help()
    order = (
        "usage: scaler_bell ADDRESS",
        "Rings.",
        "positional arguments:",
        "options:",
        "-r N",
        "--chime TEXT",
        "object storage:",
        "--storage-path TEXT",
        "timeouts:",
        "--worker-timeout-seconds SECONDS",
        "keys and audit:",
        "--security-dir",
        "logging:",
        "--logging-level",
        "general:",
        "-h, --help",
        "--version",
        "-c FILE",
        "--event-loop",
        f"{WITHOUT_EFFECT}:",
        "--log-hub-address",
        "in the section [bell] of FILE",
        "examples:\n  three times:\n    scaler_bell tcp://127.0.0.1:1 -r 3",
    )
    places = [page.find(text) for text in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)
    assert page.count("how often") == 1


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("max_task_attempts", OWN),
        ("resources", OWN),
        ("timeout", OWN),
        ("object_storage_timeout_seconds", "object storage"),
        ("object_storage_security_dir", "keys and audit"),
        ("no_worker_timeout_seconds", "starting and stopping workers on demand"),
        ("processor_memory_limit_bytes", "limits of the processes that run tasks"),
        ("adapter_webhook_token_file", "starting and stopping workers on demand"),
        ("token_file", "access over HTTP"),
    ],
)
def test_each_setting_has_one_section(name: str, title: str) -> None:
    assert section_of(name, "what it does") == title
    assert section_of(name, "accepted for older command lines, without effect") == WITHOUT_EFFECT


def test_nouns_agree_with_their_counts() -> None:
    assert [counted(n, "worker") for n in (0, 1, 2, 1_000)] == ["0 workers", "1 worker", "2 workers", "1,000 workers"]
    assert counted(2, "process", "processes") == "2 processes"
