"""The settings of a service: declared once as typed fields, read from the command line and a TOML section.

    class ClockSettings(ServiceSettings):
        "Tells the time."                              # the description that `-h` prints

        command: ClassVar[str] = "scaler_clock"
        section: ClassVar[str] = "clock"

        address: CliPositionalArg[AddressSetting] = Field(description="where to listen")
        tick_seconds: Annotated[float, Short("ts")] = Field(default=1.0, gt=0, description="seconds between two ticks")

A field `tick_seconds` is the flag `--tick-seconds`, its short form `-ts` and the TOML key `tick_seconds`. A setting
from the command line wins over the section of the file named by `--config`, which wins over the default. The environment
is not read, so the command line and the file show everything that a service does. Sections of other services in the same
file are ignored. A warning names a section that no service reads if its name is similar to this one. With a setting in it that
keeps somebody out it is an error, since the service would start without.

pydantic-settings parses. This module adds flags of several letters with one dash (`-ts`), flags that take several words,
and errors with one line for each flag or key and exit status 2.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import reprlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, Self, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from scaler_protocol.address import Address
from scaler_protocol.address_list import AddressList
from scaler_protocol.capabilities import format_capabilities, parse_capabilities
from scaler_protocol.runtime.log_lines import harmless_cell
from scaler_protocol.runtime.resources import normal_amounts
from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.private_files import require_private
from scaler_protocol.service.byte_sizes import parse_bytes
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.help_page import HelpPageParser, examples_text
from scaler_protocol.service.settings_file import hint, nearest, read_document, section_of, suspicions

__all__ = [
    "AddressListSetting",
    "AddressSetting",
    "AlsoKey",
    "BindAddressSetting",
    "BytesSetting",
    "CapabilitiesSetting",
    "CliPositionalArg",
    "NoEffect",
    "Protective",
    "ResourcesSetting",
    "ServiceSettings",
    "Short",
    "TakesSeveral",
    "TextListSetting",
    "parse_address",
    "parse_address_list",
    "require_connectable",
    "text_of",
]

# pydantic-settings turns this text into None wherever it stands. No flag can contain a NUL, so no value is lost.
_NONE_TEXT = "\0"


@dataclass(frozen=True, slots=True)
class Short:
    """Marks a field with the short forms of its flag, without the dash: `Short("n")`, `Short("osa")`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True, slots=True)
class AlsoKey:
    """Marks a positional field with a further TOML key. Other fields use `validation_alias=AliasChoices(…)`."""

    name: str


class Secret:
    """Mark of a setting that only its owner may know: a settings file with it must not be readable by others."""


class Protective:
    """Mark of a setting that keeps somebody out: a file in which it stands where nobody reads it is refused."""


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Marks a setting of older command lines and files that does nothing. A command that is given it logs the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class TakesSeveral:
    """Marks a list field whose flag takes all words up to the next flag, as in `--logging-paths a b`."""


def parse_address(value: object) -> Address:
    """Return a setting's value as an address. Raises ValueError if it is not one."""
    return value if isinstance(value, Address) else Address.parse(text_of(value))


def parse_address_list(value: object) -> AddressList:
    """Return a setting's value as addresses to connect to. Raises ValueError if it is none."""
    return value if isinstance(value, AddressList) else AddressList.parse(text_of(value))


def text_of(value: object) -> str:
    """Return a setting's value that must be the text of an address. Raises ValueError if it is none."""
    if not isinstance(value, str):
        raise ValueError(f"expected text like tcp://127.0.0.1:2345, not {type(value).__name__}")
    return value


def require_connectable(address: Address) -> Address:
    """Return this address. Raises ValueError if nobody can connect to it."""
    if not address.can_be_connected:
        raise ValueError(f"{address} can be listened on but not connected to: name a host and a port other than 0")
    return address


def _parse_capabilities(value: object) -> str:
    if isinstance(value, Mapping):
        value = format_capabilities(value)
    if not isinstance(value, str):
        raise ValueError(f"expected text like linux,cpu=4, not {type(value).__name__}")
    return format_capabilities(parse_capabilities(value))


def _split_texts(value: object) -> object:
    """Return the parts of a text that are separated by commas, for command lines and files."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


BindAddressSetting = Annotated[Address, NoDecode, BeforeValidator(parse_address), PlainSerializer(str)]
"""An address to listen on. For port 0 the system chooses one."""

AddressListSetting = Annotated[AddressList, NoDecode, PlainValidator(parse_address_list), PlainSerializer(str)]
"""Addresses of schedulers to connect to, separated by commas."""

AddressSetting = Annotated[
    Address, NoDecode, BeforeValidator(parse_address), AfterValidator(require_connectable), PlainSerializer(str)
]
"""An address to connect to."""

CapabilitiesSetting = Annotated[str, BeforeValidator(_parse_capabilities)]
"""Capabilities such as `linux,cpu=4`, checked, in their normal form; also accepts a mapping in code."""

ResourcesSetting = Annotated[str, BeforeValidator(normal_amounts)]
"""Counted resources such as `gpu=2,mem=64GiB`, checked, in their normal form; also accepts a mapping in code."""

BytesSetting = Annotated[int, BeforeValidator(parse_bytes)]
"""A number of bytes. A text may have a unit: KiB, MiB, GiB or TiB."""

TextListSetting = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_texts)]
"""Several texts: a TOML array, or one text separated by commas."""


_PLAIN_WORDS = {
    "Input should be ": "must be ",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid tuple": "a list",
}


class _Parser(HelpPageParser):
    """Raises an exception for an error, so that all errors of a command look the same."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (-h lists the flags)")


class _ShowVersion(argparse.Action):
    """Prints the version that all packages of Scaler carry, and ends the command."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        from importlib.metadata import version

        print(f"{parser.prog} {version('scaler-protocol')}")
        parser.exit()


class ServiceSettings(BaseSettings):
    """Base of every command's settings."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        # A command makes settings of one class, when it has read the command line. Those it inherits from need no validators.
        defer_build=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str=_NONE_TEXT,
    )

    command: ClassVar[str]
    section: ClassVar[str]
    examples: ClassVar[tuple[tuple[str, str], ...]] = ()
    """For the end of the help: command lines, each with what it does."""

    config: Annotated[Path | None, Short("c")] = Field(
        default=None, description="TOML file; the section of this command sets what the command line does not"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_empty_path(cls, value: Any, info: ValidationInfo) -> Any:
        # As of a shell's variable that is not set. Path("") is the folder in which the command was started.
        if value == "" and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            if Path in (annotation, *get_args(annotation)):
                raise ValueError("must be a path, not ''")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the environment out: the TOML section arrives as keyword arguments, flags from the command line."""
        return (init_settings,)

    @classmethod
    def from_command_line(cls, arguments: Sequence[str] | None = None) -> Self:
        """Return the settings for these arguments (default: those of this process), with all values checked.

        Raises `ConfigurationError` with one line for each wrong setting. `-h` prints the help and exits with status 0.
        """
        problems: list[str] = []
        guessed: set[str | None] = set()
        config_path: Path | None = None
        given: Mapping[str, Any] = {}
        settings: Self | None = None
        try:
            command_line = cls._command_line_source(list(sys.argv[1:] if arguments is None else arguments), problems)
            given = command_line()
            config_path = Path(given["config"]) if given.get("config") else None
            section = {} if config_path is None else cls._read_section(config_path, problems, guessed)
            # A field can have several names. The command line's value under one name replaces the file's under another.
            overridden = {cls._field_of(key) for key in given}
            kept = {name: value for name, value in section.items() if name not in overridden}
            settings = cls(_cli_settings_source=command_line, **kept)
        except ValidationError as error:
            problems += [
                cls._explain(detail, given, config_path)
                for detail in error.errors(include_url=False)
                # A default could not be computed from another setting, because that setting is wrong.
                if detail["type"] != "default_factory_not_called"
                # A field is not reported as missing if it is there under a similar name.
                and not (detail["type"] == "missing" and cls._field_of(str(detail["loc"][0])) in guessed)
            ]
        except UnicodeEncodeError as error:
            # pydantic cannot pass on what a validator says of a word that is not UTF-8.
            problems.append(error.object.encode("utf-8", "backslashreplace").decode())
        except SettingsError as error:
            problems.append(str(error))
        except ConfigurationError as error:
            problems += str(error).splitlines()
        if problems or settings is None:
            raise ConfigurationError("\n".join(dict.fromkeys(problems)))
        return settings

    def to_command_line(self, fields: Iterable[str] | None = None) -> list[str]:
        """Return arguments from which `from_command_line` makes equal settings, without defaults and without the file.

        With `fields`, only these settings. Use it to pass settings on to another command that has them too.
        """
        options: list[str] = []
        positionals: list[str] = []
        for name, value in self.model_dump(
            exclude_defaults=True, exclude={"config"}, include=None if fields is None else set(fields)
        ).items():
            if _is_positional(type(self).model_fields[name]):
                positionals.append(str(value))
                continue
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                options.append(flag if value else "--no-" + flag[2:])
            elif isinstance(value, tuple):
                options.extend(f"{flag}={item}" for item in value)
            elif value is not None:
                options.append(f"{flag}={value}")
        return positionals + options

    def without_effect(self) -> list[str]:
        """Return a line for each setting that was given and does nothing: its flag, and why."""
        return [
            f"--{name.replace('_', '-')} has no effect: {mark.reason}"
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set
            for mark in field.metadata
            if isinstance(mark, NoEffect)
        ]

    @classmethod
    def parser(cls) -> argparse.ArgumentParser:
        """Return the parser of the command line, for programs that describe it, such as those that write documentation."""
        parser = cls._command_line_source([], []).root_parser
        assert isinstance(parser, argparse.ArgumentParser)
        return parser

    @classmethod
    def toml_keys(cls) -> frozenset[str]:
        """Return all keys that the section of this command may have."""
        return frozenset(key for name in cls.model_fields if name != "config" for key in cls._names_of(name))

    @classmethod
    def _command_line_source(cls, arguments: list[str], problems: list[str]) -> CliSettingsSource[Self]:
        positionals = [name.upper() for name, field in cls.model_fields.items() if _is_positional(field)]
        parser = _Parser(
            prog=cls.command,
            usage=f"{cls.command} {' '.join(positionals)} [--config FILE] [flags]",
            description=inspect.cleandoc(cls.__doc__ or ""),
            epilog=f"--config FILE sets these flags in the section [{cls.section}] of FILE, with _ for -."
            + examples_text(cls.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.name_of = lambda dest: cls._field_of(dest.replace("-", "_"))
        parser.rank_of = cls._inherited_by
        # Read only if it is needed, because reading package metadata takes longer than reading the flags.
        parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version of Scaler and exit")
        return CliSettingsSource[Self](
            cls,
            cli_parse_args=arguments,
            cli_shortcuts={cls._names_of(name)[0].replace("_", "-"): shorts for name, shorts in cls._shorts().items()},
            root_parser=parser,
            parse_args_method=lambda parser, words: cls._parse_flags(parser, words, problems),
            add_argument_method=cls._add_argument,
        )

    @classmethod
    def _inherited_by(cls, name: str) -> int:
        """Return how many classes have this field, up to this one: 1 for a field of the command's own class."""
        return sum(name in base.model_fields for base in cls.__mro__ if issubclass(base, ServiceSettings))

    @classmethod
    def _add_argument(cls, container: Any, *names: str, **options: Any) -> argparse.Action:
        """Add one flag that pydantic-settings describes, with Scaler's short forms and help text."""
        name = cls._field_of(options.get("dest", names[0]).replace("-", "_"))
        field = cls.model_fields[name]
        options["help"] = _help_text(field)
        if _is_positional(field):
            # The section may have it. Whether it is missing is decided when both have been read.
            return _as_action(container.add_argument(*names, **options | {"nargs": "?", "metavar": name.upper()}))
        shorts = cls._shorts().get(name, ())
        names = tuple("-" + text.lstrip("-") if text.lstrip("-") in shorts else text for text in names)
        if field.annotation is not bool and not str(options["metavar"]).startswith("{"):
            options["metavar"] = _metavar(name, field)
        if any(isinstance(mark, TakesSeveral) for mark in field.metadata):
            options |= {"action": "extend", "nargs": "+"}
        return _as_action(container.add_argument(*names, **options))

    @classmethod
    def _read_section(cls, path: Path, problems: list[str], guessed: set[str | None]) -> dict[str, Any]:
        """Return the settings in this command's section, by field.

        Errors are added to `problems`. Fields that unknown names probably mean are added to `guessed`.
        """
        document = read_document(path)
        section = section_of(document, cls.section, path)
        cls._require_private(path, section)
        known = cls.toml_keys()
        for suspicion in suspicions(document, cls.section, known, path):
            # With a warning alone, a service would start without its keys, open to all.
            if any(cls._is_protective(key) for key in suspicion.lost & known):
                problems.append(suspicion.line)
            else:
                print(f"{cls.command}: warning: {harmless_cell(suspicion.line)}", file=sys.stderr)
        for key in section.keys() - known:
            guessed.add(cls._field_of(nearest(key, known) or ""))
        all_known = f"; known are: {', '.join(sorted(known))}"
        for key in section:
            if key not in known:
                meant = hint(key, known) or all_known
                problems.append(f"{path}: [{cls.section}] has no setting {key!r}{meant}")
        names: dict[str, list[str]] = {}
        for key in section:
            if key in known:
                names.setdefault(cls._field_of(key), []).append(key)
        problems += [
            f"{path}: [{cls.section}] sets the same thing twice: {' and '.join(keys)}"
            for keys in names.values()
            if len(keys) > 1
        ]
        return {name: section[keys[-1]] for name, keys in names.items()}

    @classmethod
    def _is_protective(cls, key: str) -> bool:
        marks = cls.model_fields[cls._field_of(key)].metadata
        return any(isinstance(mark, Protective | Secret) for mark in marks)

    @classmethod
    def _require_private(cls, path: Path, section: Mapping[str, Any]) -> None:
        """Raise ConfigurationError if the section has a secret and others can read the file."""
        for key in section:
            field = cls.model_fields.get(cls._field_of(key))
            if field is not None and any(isinstance(mark, Secret) for mark in field.metadata):
                try:
                    require_private(path)
                except SecurityFileError as error:
                    raise ConfigurationError(f"[{cls.section}] {key}: {error}") from None

    @classmethod
    def _parse_flags(
        cls, parser: argparse.ArgumentParser, arguments: list[str], problems: list[str]
    ) -> argparse.Namespace:
        """Let argparse read the command line. Unknown flags are reported with all other errors."""
        namespace, unknown = parser.parse_known_args(arguments)
        if unknown:
            flags = cls._long_flags()
            hints = "".join(hint(word.partition("=")[0], flags) for word in unknown if word.startswith("-"))
            problems.append(f"unrecognized arguments: {' '.join(unknown)}{hints} (-h lists the flags)")
        return namespace

    @classmethod
    def _long_flags(cls) -> list[str]:
        """Return all flags by their long forms."""
        flags = []
        for field_name, field in cls.model_fields.items():
            if not _is_positional(field):
                for name in cls._names_of(field_name):
                    words = name.replace("_", "-")
                    flags += [f"--{words}", f"--no-{words}"] if field.annotation is bool else [f"--{words}"]
        return flags

    @classmethod
    def _explain(cls, detail: Any, given: Mapping[str, Any], config_path: Path | None) -> str:
        """Return one line for one wrong value: where it came from, then what is wrong."""
        if not detail["loc"]:
            return _reason(detail)
        name = cls._field_of(str(detail["loc"][0]))
        positional = _is_positional(cls.model_fields[name]) if name in cls.model_fields else False
        label = name.upper() if positional else "--" + name.replace("_", "-")
        if detail["type"] == "missing":
            place = "on the command line, before the flags," if positional else "on the command line"
            return f"{label} is missing: give it {place} or as {name!r} in section [{cls.section}] of --config FILE"
        if name in map(cls._field_of, given):
            return f"{label}: {_reason(detail)}"
        return f"{config_path}: [{cls.section}] {name}: {_reason(detail)}"

    @classmethod
    def _names_of(cls, name: str) -> tuple[str, ...]:
        """Return the names of a field in a file: its own first, then those that older files use."""
        field = cls.model_fields[name]
        alias = field.validation_alias
        also = tuple(mark.name for mark in field.metadata if isinstance(mark, AlsoKey))
        if isinstance(alias, AliasChoices):
            return tuple(choice for choice in alias.choices if isinstance(choice, str)) + also
        return (name, *also)

    @classmethod
    @functools.cache
    def _shorts(cls) -> dict[str, list[str]]:
        """Return the short forms of each field. A command may use one of an inherited field for a field of its own."""
        owners = {
            short: name
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Short)
            for short in mark.names
        }
        shorts: dict[str, list[str]] = {}
        for short, name in owners.items():
            shorts.setdefault(name, []).append(short)
        return shorts

    @classmethod
    def _field_of(cls, key: str) -> str:
        return cls._fields_by_name().get(key, key)

    @classmethod
    @functools.cache
    def _fields_by_name(cls) -> dict[str, str]:
        """Return all fields by each of their names. Each flag of a command line is looked up several times."""
        fields: dict[str, str] = {}
        for field in cls.model_fields:
            for name in (field, *cls._names_of(field)):
                fields.setdefault(name, field)
        return fields


def _is_positional(field: FieldInfo) -> bool:
    # CliPositionalArg is an alias that contains a marker class. Only by comparing that can it be recognised publicly.
    marker = CliPositionalArg.__metadata__[0]
    return marker in field.metadata


def _metavar(name: str, field: FieldInfo) -> str:
    """Return the name of the value in the help: its unit, if it has one."""
    if name.endswith(("_seconds", "_bytes")):
        return name.rpartition("_")[2].upper()
    if name in ("seconds", "timeout"):
        return "SECONDS"
    annotation = str(field.annotation)
    if name.endswith("_dir") or (field.description or "").startswith(("folder", "directory")):
        return "DIR"
    known = {"Address": "ADDRESS", "Path": "FILE", "int": "N", "float": "X"}
    return next((metavar for type_name, metavar in known.items() if type_name in annotation), "TEXT")


def _help_text(field: FieldInfo) -> str:
    """Return the description with the default, unless that is empty or computed from other settings."""
    if field.is_required() or field.default_factory_takes_validated_data:
        default = None
    else:
        default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, float):
        shown = f"{default:g}"
    else:
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
    ending = "" if default is None or shown == "" else f" (default: {shown})"
    return f"{field.description}{ending}".replace("%", "%%")


def _as_action(added: object) -> argparse.Action:
    assert isinstance(added, argparse.Action)
    return added


def _reason(detail: Any) -> str:
    """Return what is wrong with a value, and the value, in words of TOML files and command lines instead of pydantic's."""
    message = str(detail["msg"])
    if detail["type"] == "too_long":
        context = detail["ctx"]
        return f"at most {context['max_length']} are possible, not {context['actual_length']}"
    if not message.startswith("Input should be "):
        # The validators of Scaler name the value themselves.
        return message.removeprefix("Value error, ")
    for theirs, ours in _PLAIN_WORDS.items():
        message = message.replace(theirs, ours)
    expected = message.partition(", unable to ")[0].partition(", got ")[0]
    if "token" in str(detail["loc"][0]):
        # Secrets must not appear in logs.
        return expected
    return f"{expected}, not {reprlib.repr(detail['input'])}"
