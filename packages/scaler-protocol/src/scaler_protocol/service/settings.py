"""The settings of a service: declared once as typed fields, read from the command line and a TOML section.

    class ClockSettings(ServiceSettings):
        "Tells the time."                              # the description that `-h` prints

        command: ClassVar[str] = "scaler_clock"
        section: ClassVar[str] = "clock"

        address: Address = positional(BIND_ADDRESS, description="where to listen")
        tick_seconds: float = setting(number(more_than=0), "ts", default=1, description="time between two ticks")

A field `tick_seconds` is the flag `--tick-seconds`, its short form `-ts` and the TOML key `tick_seconds`. A setting
given on the command line wins over the section of the file named by `--config`, which wins over the default. The
environment is not read: what a service does can be seen from its command line and its file alone. Sections of other
services in the same file are not looked at.

Every process of a cluster goes through here as it starts, and keeps what it has imported: so argparse and tomllib do the
parsing and nothing larger. Whatever is wrong is said in one line per flag or key, with exit status 2.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self, TypeVar, dataclass_transform

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.setting_types import PATH, SettingType

__all__ = ["ServiceSettings", "positional", "required", "setting"]

T = TypeVar("T")
D = TypeVar("D")

_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class _Setting:
    type: SettingType[Any]
    description: str
    short: str
    default: Any
    default_factory: Callable[[], Any] | None
    default_from: Callable[[Mapping[str, Any]], Any] | None
    also: tuple[str, ...]
    is_positional: bool
    takes_several: bool

    @property
    def is_required(self) -> bool:
        return self.default is _REQUIRED

    def make_default(self, earlier: Mapping[str, Any]) -> Any:
        if self.default_from is not None:
            return self.default_from(earlier)
        return self.default if self.default_factory is None else self.default_factory()


def setting(
    setting_type: SettingType[T],
    short: str = "",
    *,
    description: str,
    default: D = None,  # type: ignore[assignment]  # where a factory makes it
    default_factory: Callable[[], T] | None = None,
    default_from: Callable[[Mapping[str, Any]], T] | None = None,
    also: Sequence[str] = (),
    takes_several: bool = False,
) -> T | D:
    """Declare one setting, which is a flag and a TOML key.

    `short`: the short form of the flag, without its dash. `default_factory` makes the default; `default_from` makes it from
    the settings declared before, and does not show it in the help. `also`: further names of the setting, which are flags and
    keys as well. `takes_several`: the flag takes all words up to the next flag, as in `--logging-paths a b`. A setting
    whose default is None may be None.
    """
    made: Any = _Setting(
        setting_type, description, short, default, default_factory, default_from, tuple(also), False, takes_several
    )
    return made  # type: ignore[no-any-return]  # a class attribute that stands for the value its instances will have


def positional(setting_type: SettingType[T], *, description: str, also_key: str = "") -> T:
    """Declare a setting that is given by position, or under its name, or `also_key`, in the file. It has no default."""
    also = (also_key,) if also_key else ()
    made: Any = _Setting(setting_type, description, "", _REQUIRED, None, None, also, True, False)
    return made  # type: ignore[no-any-return]


def required(setting_type: SettingType[T], short: str = "", *, description: str) -> T:
    """Declare a setting that has no default: the command line or the file must give it."""
    made: Any = _Setting(setting_type, description, short, _REQUIRED, None, None, (), False, False)
    return made  # type: ignore[no-any-return]


class _Parser(argparse.ArgumentParser):
    """Reports what is wrong as an exception, so that every refusal of a command looks the same."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (-h lists the flags)")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, required, positional))
class ServiceSettings:
    """Base of every command's settings. They cannot be changed once they are made."""

    command: ClassVar[str]
    section: ClassVar[str]
    _settings: ClassVar[Mapping[str, _Setting]] = {}

    config: Path | None = setting(
        PATH,
        "c",
        default=None,
        description="TOML file whose section for this command sets what the command line leaves out",
    )

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, annotation in inspect.get_annotations(cls).items():
            if not isinstance(vars(cls).get(name), _Setting) and "ClassVar" not in str(annotation):
                raise TypeError(
                    f"{cls.__name__}.{name}: declare settings with setting(…), required(…) or positional(…)"
                )
        cls._settings = {
            name: value
            for base in reversed(cls.__mro__)
            for name, value in vars(base).items()
            if isinstance(value, _Setting)
        }

    def __init__(self, **given: Any) -> None:
        """Take values by name, each checked. Raises `ConfigurationError` with one line per setting at fault."""
        self._take(given, lambda name: _flag_of(name))

    def check(self) -> None:
        """Raise ValueError for settings that do not go together. Called last, when each is right by itself."""

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of all settings."""
        return frozenset(cls._settings)

    @classmethod
    def from_command_line(cls, arguments: Sequence[str] | None = None) -> Self:
        """The settings for these arguments (default: those of this process), each value validated.

        Raises `ConfigurationError` with one line per setting at fault. `-h` prints the help and exits with status 0.
        """
        given = vars(cls._parser().parse_args(sys.argv[1:] if arguments is None else list(arguments)))
        config_path = Path(given["config"]) if "config" in given else None
        section = {} if config_path is None else cls._read_section(config_path)

        def place_of(name: str) -> str:
            if name in given or name not in section:
                return name.upper() if cls._settings[name].is_positional else _flag_of(name)
            return f"{config_path}: [{cls.section}] {name}"

        settings = cls.__new__(cls)
        settings._take(section | given, place_of)
        return settings

    def to_command_line(self, fields: Iterable[str] | None = None) -> list[str]:
        """Arguments from which `from_command_line` makes equal settings; defaults are left out, and so is the file.

        With `fields`, only these settings; the way to pass on to another command what both understand.
        """
        options: list[str] = []
        positionals: list[str] = []
        wanted = self.names() if fields is None else set(fields)
        values = vars(self)
        for name, declared in self._settings.items():
            value = values[name]
            if name not in wanted or name == "config":
                continue
            if declared.is_positional:
                positionals.append(str(value))
                continue
            if value == declared.make_default(values):
                continue
            flag = _flag_of(name)
            if isinstance(value, bool):
                options.append(flag if value else "--no-" + flag[2:])
            elif isinstance(value, tuple):
                options.extend(f"{flag}={item}" for item in value)
            elif value is not None:
                options.append(f"{flag}={value}")
        return positionals + options

    @classmethod
    def toml_keys(cls) -> frozenset[str]:
        """All keys that the section of this command may hold."""
        return frozenset(
            key for name, declared in cls._settings.items() if name != "config" for key in (name, *declared.also)
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings do not change: {name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def _take(self, given: Mapping[str, Any], place_of: Callable[[str], str]) -> None:
        """Fill this object with what was given and with defaults, or raise `ConfigurationError`."""
        values = vars(self)
        problems = [f"{_flag_of(name)} is no setting of {self.command}" for name in given if name not in self._settings]
        for name, declared in self._settings.items():
            try:
                if name in given:
                    value = given[name]
                    values[name] = None if value is None and declared.default is None else declared.type.read(value)
                elif not declared.is_required:
                    # A default made from a setting that is at fault would only be a fault of its own.
                    values[name] = None if problems else declared.make_default(values)
                else:
                    problems.append(self._missing(name))
            except ValueError as error:
                problems.append(f"{place_of(name)}: {error}")
        if not problems:
            try:
                self.check()
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ConfigurationError("\n".join(problems))

    @classmethod
    def _missing(cls, name: str) -> str:
        if cls._settings[name].is_positional:
            label, place = name.upper(), "on the command line, before the flags,"
        else:
            label, place = _flag_of(name), "on the command line"
        return f"{label} is missing: give it {place} or as {name!r} in section [{cls.section}] of --config FILE"

    @classmethod
    def _parser(cls) -> argparse.ArgumentParser:
        positionals = [name.upper() for name, declared in cls._settings.items() if declared.is_positional]
        parser = _Parser(
            prog=cls.command,
            usage=f"{cls.command} {' '.join(positionals)} [--config FILE] [flags]",
            # Without the indentation of the lines after the first.
            description="\n".join(line.strip() for line in (cls.__doc__ or "").strip().splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, declared in cls._settings.items():
            cls._add_argument(parser, name, declared)
        return parser

    @classmethod
    def _add_argument(cls, parser: argparse.ArgumentParser, name: str, declared: _Setting) -> None:
        # What is not given stays out of the result, so that the file and the defaults can fill in.
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help_text(declared)}
        if declared.is_positional:
            # The section may provide it; whether it is missing is decided when both have been read.
            parser.add_argument(name, nargs="?", metavar=name.upper(), **options)
            return
        names = [_flag_of(name), *map(_flag_of, declared.also)]
        if declared.short:
            names.append("-" + declared.short)
        if declared.type.is_switch:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = _metavar(name, declared)
        if declared.type.is_list:
            options |= {"action": _Words, "nargs": "+" if declared.takes_several else 1}
        parser.add_argument(*names, dest=name, **options)

    @classmethod
    def _read_section(cls, path: Path) -> dict[str, Any]:
        # Most commands are started without a file.
        import tomllib

        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
        section = document.get(cls.section, {})
        if not isinstance(section, dict):
            raise ConfigurationError(f"{path}: {cls.section!r} is not a section; write [{cls.section}]")
        problems = [
            f"{path}: [{cls.section}] has no setting {key!r}; known are: {', '.join(sorted(cls.toml_keys()))}"
            for key in section
            if key not in cls.toml_keys()
        ]
        twice: dict[str, list[str]] = {}
        for key in section:
            twice.setdefault(cls._name_of(key), []).append(key)
        problems += [
            f"{path}: [{cls.section}] sets the same thing twice: {' and '.join(keys)}"
            for keys in twice.values()
            if len(keys) > 1
        ]
        if problems:
            raise ConfigurationError("\n".join(problems))
        return {cls._name_of(key): value for key, value in section.items()}

    @classmethod
    def _name_of(cls, key: str) -> str:
        return next((name for name, declared in cls._settings.items() if key == name or key in declared.also), key)


class _Words(argparse.Action):
    """Collects the words of a flag that may be given several times, each of them separated by commas."""

    def __call__(
        self, _parser: object, namespace: argparse.Namespace, values: object, _option_string: str | None = None
    ) -> None:
        assert isinstance(values, list)
        words: list[str] = [*getattr(namespace, self.dest, [])]
        for value in values:
            words += (part.strip() for part in value.split(",") if part.strip())
        setattr(namespace, self.dest, words)


def _flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(name: str, declared: _Setting) -> str:
    """What stands for the value in the help: its unit where it has one."""
    return name.rpartition("_")[2].upper() if name.endswith(("_seconds", "_bytes")) else declared.type.metavar


def _help_text(declared: _Setting) -> str:
    """The description with the default behind it, unless it is nothing, or derived from other settings."""
    default = None if declared.is_required or declared.default_from is not None else declared.make_default({})
    if isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, float):
        shown = f"{default:g}"
    else:
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
    ending = "" if default is None or shown == "" else f" (default: {shown})"
    return f"{declared.description}{ending}".replace("%", "%%")
