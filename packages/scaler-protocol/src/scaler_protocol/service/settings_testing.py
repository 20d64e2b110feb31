"""For the tests of a command: checks one flag in all its forms against what is documented of it.

A command's test holds its table of `DocumentedFlag`s and passes each through `check_flag`; `check_table_is_complete`
makes sure that no setting is missing from the table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaler_protocol.service.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class DocumentedFlag:
    """What users are told about one setting: `text` given for any of `forms` means `value`; left out, `default`.

    A switch has no text. Every long form is a TOML key too.
    """

    field: str
    forms: tuple[str, ...]
    text: str | None
    value: object
    default: object

    def __str__(self) -> str:
        return self.forms[0]


def check_flag(
    settings_class: type[ServiceSettings], arguments: Sequence[str], flag: DocumentedFlag, folder: Path
) -> None:
    """Asserts every form of the flag, its TOML keys, its default, and that it survives `to_command_line`.

    `arguments` are those without which the command does not start; files are written to `folder`.
    """
    assert _read(settings_class, arguments, flag) == flag.default
    for form in flag.forms:
        words = [form] if flag.text is None else [form, flag.text]
        assert _read(settings_class, [*arguments, *words], flag) == flag.value
        if not form.startswith("--"):
            continue
        if flag.text is not None:
            assert _read(settings_class, [*arguments, f"{form}={flag.text}"], flag) == flag.value
        file = _write_toml(folder, settings_class, form, flag)
        assert _read(settings_class, [*arguments, "--config", str(file)], flag) == flag.value
        settings = settings_class.from_command_line([*arguments, *words])
        assert settings_class.from_command_line(settings.to_command_line()) == settings


def check_table_is_complete(
    settings_class: type[ServiceSettings], flags: Iterable[DocumentedFlag], besides: Collection[str]
) -> None:
    """Asserts that the table and the names in `besides` are all settings there are."""
    assert {flag.field for flag in flags} | {"config", *besides} == settings_class.names()


def _read(settings_class: type[ServiceSettings], arguments: Sequence[str], flag: DocumentedFlag) -> object:
    value: object = getattr(settings_class.from_command_line(arguments), flag.field)
    return value


def _write_toml(folder: Path, settings_class: type[ServiceSettings], form: str, flag: DocumentedFlag) -> Path:
    text = flag.text or "true"
    shown = text if isinstance(flag.value, int | float) else f'"{text}"'
    file = folder / "scaler.toml"
    file.write_text(f"[{settings_class.section}]\n{form[2:].replace('-', '_')} = {shown}\n", encoding="utf-8")
    return file
