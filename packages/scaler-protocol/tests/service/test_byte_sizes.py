"""Numbers of bytes, with units and without."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from scaler_protocol.service.byte_sizes import bytes_text
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import BytesSetting, ServiceSettings


class Settings(ServiceSettings):
    """The settings of a service that does not exist."""

    command: ClassVar[str] = "scaler_nothing"
    section: ClassVar[str] = "nothing"

    limit_bytes: BytesSetting = Field(default=0, ge=0, description="a limit")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4294967296", 4 << 30),
        ("4G", 4 << 30),
        ("4GiB", 4 << 30),
        ("4 gib", 4 << 30),
        ("512MiB", 512 << 20),
        ("3k", 3 << 10),
        ("1T", 1 << 40),
    ],
)
def test_a_number_of_bytes_may_have_a_unit(tmp_path: Path, text: str, size: int) -> None:
    settings = Settings.from_command_line([f"--limit-bytes={text}"])
    assert settings.limit_bytes == size
    assert Settings.from_command_line(settings.to_command_line()) == settings
    file = tmp_path / "scaler.toml"
    file.write_text(f'[nothing]\nlimit_bytes = "{text}"\n')
    assert Settings.from_command_line(["--config", str(file)]).limit_bytes == size
    file.write_text(f"[nothing]\nlimit_bytes = {size}\n")
    assert Settings.from_command_line(["--config", str(file)]).limit_bytes == size


@pytest.mark.parametrize("text", ["", "G", "4GB", "4KB", "1.5G", "-1", "4GiBB", "0x10", "९", "9" * 21, "4\nG"])
def test_what_is_no_number_of_bytes_is_told_with_examples(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"--limit-bytes: .* expected one such as 4294967296, 4096MiB or 4GiB$"
    ):
        Settings.from_command_line([f"--limit-bytes={text}"])


def test_other_types_are_told_as_before(tmp_path: Path) -> None:
    file = tmp_path / "scaler.toml"
    file.write_text("[nothing]\nlimit_bytes = 1.5\n")
    with pytest.raises(ConfigurationError, match="limit_bytes: must be a whole number"):
        Settings.from_command_line(["--config", str(file)])
    file.write_text("[nothing]\nlimit_bytes = -1\n")
    with pytest.raises(ConfigurationError, match="greater than or equal to 0, not -1"):
        Settings.from_command_line(["--config", str(file)])


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (12638251008, "11.8 GiB"), (1 << 52, "4096.0 TiB")],
)
def test_a_number_of_bytes_for_people(count: int, text: str) -> None:
    assert bytes_text(count) == text
