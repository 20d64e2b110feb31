"""For the tests of a command: checks one flag in all its forms against what is documented of it.

A command's test holds its table of `DocumentedFlag`s and passes each through `check_flag`; `check_table_is_complete`
makes sure that no setting is missing from the table. What several commands take is written here: `SERVER_FLAGS`, `WEB_FLAGS`, and
`WORKER_FLAGS` for all whose settings are `WorkerSettings`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaler_protocol.address import Address
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


SERVER_FLAGS = (
    DocumentedFlag("event_loop", ("--event-loop", "-el"), "uvloop", "uvloop", "builtin"),
    DocumentedFlag("log_hub_address", ("--log-hub-address",), "tcp://h:1", "tcp://h:1", None),
    DocumentedFlag("io_threads", ("--io-threads", "--worker-io-threads", "-wit"), "4", 4, 1),
    DocumentedFlag(
        "logging_paths", ("--logging-paths", "-lp"), "/tmp/a,/tmp/b", ("/tmp/a", "/tmp/b"), ("/dev/stdout",)
    ),
    DocumentedFlag("logging_config_file", ("--logging-config-file", "-lcf"), "log.ini", Path("log.ini"), None),
    DocumentedFlag("logging_level", ("--logging-level", "-ll"), "debug", "DEBUG", "INFO"),
    DocumentedFlag("logging_format", ("--logging-format", "-lf"), "json", "json", "text"),
)
"""What scheduler, object storage server, workers and adapters take alike."""

WEB_FLAGS = (
    DocumentedFlag("token_file", ("--token-file", "--auth-token-file", "-atf"), "/etc/token", Path("/etc/token"), None),
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    DocumentedFlag("allowed_hosts", ("--allowed-hosts",), "a.example,b", ("a.example", "b"), ()),
    DocumentedFlag("tls_cert_file", ("--tls-cert-file",), "/etc/cert", Path("/etc/cert"), None),
    DocumentedFlag("tls_key_file", ("--tls-key-file",), "/etc/key", Path("/etc/key"), None),
    DocumentedFlag("tls_key_password_file", ("--tls-key-password-file",), "/etc/pw", Path("/etc/pw"), None),
    DocumentedFlag("max_connections", ("--max-connections",), "50", 50, 500),
    DocumentedFlag("max_connections_per_address", ("--max-connections-per-address",), "20", 20, 200),
    DocumentedFlag("request_header_timeout_seconds", ("--request-header-timeout-seconds",), "5", 5.0, 10.0),
)
"""What web services take alike: adapters and the UI."""

WORKER_FLAGS = (
    DocumentedFlag(
        "object_storage_address", ("--object-storage-address", "-osa"), "tcp://h:1", Address.parse("tcp://h:1"), None
    ),
    DocumentedFlag(
        "per_worker_capabilities",
        ("--per-worker-capabilities", "--worker-capabilities", "-pwc"),
        "linux,cpu=4",
        "linux,cpu=4",
        "",
    ),
    DocumentedFlag("resources", ("--resources", "-res"), "gpu=2, mem=2048MiB", "gpu=2,mem=2GiB", ""),
    DocumentedFlag("gpu_devices", ("--gpu-devices", "-gd"), "0,1", ("0", "1"), ()),
    DocumentedFlag(
        "per_worker_task_queue_size",
        ("--per-worker-task-queue-size", "--worker-task-queue-size", "--per-worker-queue-size", "-wtqs"),
        "7",
        7,
        1000,
    ),
    DocumentedFlag(
        "heartbeat_interval_seconds",
        ("--heartbeat-interval-seconds", "--heartbeat-interval", "-his", "-hi"),
        "0.5",
        0.5,
        2,
    ),
    DocumentedFlag("task_timeout_seconds", ("--task-timeout-seconds", "-tts"), "600", 600, 0),
    DocumentedFlag("death_timeout_seconds", ("--death-timeout-seconds", "-dts"), "12", 12, 300),
    DocumentedFlag("garbage_collect_interval_seconds", ("--garbage-collect-interval-seconds", "-gc"), "5", 5, 30),
    DocumentedFlag("trim_memory_threshold_bytes", ("--trim-memory-threshold-bytes", "-tm"), "1000", 1000, 1024**3),
    DocumentedFlag("hard_processor_suspend", ("--hard-processor-suspend", "-hps"), None, True, False),
    DocumentedFlag("task_output_bytes", ("--task-output-bytes", "-tob"), "1048576", 1024**2, 256 * 1024),
    DocumentedFlag("hide_task_arguments", ("--hide-task-arguments", "-hta"), None, True, False),
    DocumentedFlag("preload", ("--preload",), "pkg.mod:func(1, 2)", "pkg.mod:func(1, 2)", None),
    DocumentedFlag("user", ("--user",), "nobody", "nobody", None),
    DocumentedFlag(
        "processor_memory_limit_bytes",
        ("--processor-memory-limit-bytes", "--processor-memory-limit"),
        "1073741824",
        1024**3,
        0,
    ),
    DocumentedFlag("enforce_memory", ("--enforce-memory",), None, True, False),
    DocumentedFlag("processor_open_files", ("--processor-open-files",), "256", 256, 0),
    DocumentedFlag("processor_processes", ("--processor-processes",), "100", 100, 0),
    DocumentedFlag("processor_cpu_seconds", ("--processor-cpu-seconds",), "60", 60, 0),
    DocumentedFlag("processor_core_bytes", ("--processor-core-bytes",), "1000", 1000, 0),
    DocumentedFlag("umask", ("--umask",), "027", "027", None),
    DocumentedFlag("private_temporary_folder", ("--private-temporary-folder",), None, True, False),
    DocumentedFlag("environment_allow", ("--environment-allow",), "APP_*,PATH", ("APP_*", "PATH"), ()),
    DocumentedFlag("environment_deny", ("--environment-deny",), "AWS_*,*_TOKEN", ("AWS_*", "*_TOKEN"), ()),
    *SERVER_FLAGS,
)


def check_flag(
    settings_class: type[ServiceSettings], arguments: Sequence[str], flag: DocumentedFlag, folder: Path
) -> None:
    """Asserts every form of the flag, its TOML keys, its default, and that it survives `to_command_line`.

    `arguments` are those without which the command does not start; files are written to `folder`.
    """
    assert getattr(_without_flags(settings_class, tuple(arguments)), flag.field) == flag.default
    for form in flag.forms:
        words = [form] if flag.text is None else [form, flag.text]
        settings = settings_class.from_command_line([*arguments, *words])
        assert getattr(settings, flag.field) == flag.value
        if not form.startswith("--"):
            continue
        if flag.text is not None:
            assert _read(settings_class, [*arguments, f"{form}={flag.text}"], flag) == flag.value
        file = _write_toml(folder, settings_class, form, flag)
        assert _read(settings_class, [*arguments, "--config", str(file)], flag) == flag.value
        assert settings_class.from_command_line(settings.to_command_line()) == settings


def check_table_is_complete(
    settings_class: type[ServiceSettings], flags: Iterable[DocumentedFlag], besides: Collection[str]
) -> None:
    """Asserts that the table and the names in `besides` are all settings there are."""
    # Every command has these two.
    assert {flag.field for flag in flags} | {"config", "security_dir", *besides} == set(settings_class.model_fields)


@functools.cache
def _without_flags(settings_class: type[ServiceSettings], arguments: tuple[str, ...]) -> ServiceSettings:
    """Return the defaults. For all flags of a command they are read once: a command line takes some hundredths of a second."""
    return settings_class.from_command_line(arguments)


def _read(settings_class: type[ServiceSettings], arguments: Sequence[str], flag: DocumentedFlag) -> object:
    value: object = getattr(settings_class.from_command_line(arguments), flag.field)
    return value


def _write_toml(folder: Path, settings_class: type[ServiceSettings], form: str, flag: DocumentedFlag) -> Path:
    text = flag.text or "true"
    shown = text if isinstance(flag.value, int | float) else f'"{text}"'
    file = folder / "scaler.toml"
    # A file with a secret must be for its owner only.
    file.touch(0o600)
    file.write_text(f"[{settings_class.section}]\n{form[2:].replace('-', '_')} = {shown}\n", encoding="utf-8")
    return file
