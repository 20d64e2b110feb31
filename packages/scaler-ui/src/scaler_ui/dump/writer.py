"""Subscribes to dumps of the scheduler and writes one to a file, with the figures and failures of the monitor streams."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from scaler_protocol.errors import WireError
from scaler_protocol.monitoring.profile_tree import collapsed
from scaler_protocol.monitoring.topics import ANY_CLIENT, FIGURES, dump_topic, dumped_task, task_output_topic
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.security_settings import peer_security
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import (
    MonitorDump,
    MonitorEvents,
    MonitorFailures,
    MonitorLog,
    MonitorOutput,
    MonitorSnapshot,
)
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.feed import refused_error
from scaler_ui.model import ClusterModel, figures
from scaler_ui.model.figures import log_after
from scaler_ui.monitor_address import check_monitor_address
from scaler_ui.outputs import output_data
from scaler_ui.profiles import calls_of, take_profile

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2

OUTPUT_SECONDS = 8.0
"""How long is waited for what workers have kept of the output of tasks; the dump is written without it then."""


def run(settings: DumpSettings) -> int:
    """Write the file. Returns the exit status."""
    if settings.profile:
        stacks = collapsed_profile(settings)
        if settings.profile_output is None:
            print(stacks, end="")
        else:
            write(settings.profile_output, stacks)
            print(f"wrote {settings.profile_output}, {len(stacks):,} bytes")
        return 0
    text = text_of(collect(settings), settings)
    if str(settings.output) == "-":
        print(text)
        return 0
    write(settings.output, text)
    print(f"wrote {settings.output}, {len(text):,} bytes")
    return 0


def write(path: Path, text: str) -> None:
    """Write a file. Raises `ServiceError` if that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"--output: cannot write {path}: {error.strerror}") from None


def collapsed_profile(settings: DumpSettings) -> str:
    """Return what workers run from now on, as collapsed stacks. Raises `ServiceError` if the scheduler does not answer."""
    security = peer_security(settings, "monitor", "operator")
    check_monitor_address(settings.monitor_address, security=security)
    profile = take_profile(settings.monitor_address, settings.profile, security=security, timeout_s=settings.timeout)
    if profile.answered < profile.agents:
        logger.warning("%d of %d worker agents have sent no samples", profile.agents - profile.answered, profile.agents)
    return collapsed(calls_of(profile))


def collect(settings: DumpSettings) -> dict[str, Any]:
    """Return the dump, figures, failures and log lines. Raises `ServiceError` if none arrive in time."""
    security = peer_security(settings, "monitor", "operator")
    check_monitor_address(settings.monitor_address, security=security)
    wanted = tuple(dict.fromkeys(settings.tasks)) or (0,)
    dumps: dict[int, MonitorDump] = {}
    outputs: dict[int, MonitorOutput] = {}
    questions = [task_output_topic(number) for number in wanted if number]
    model = ClusterModel()
    subscriber = Subscriber(
        str(settings.monitor_address), (FIGURES, *map(dump_topic, wanted), *questions), security=security
    )
    deadline = time.monotonic() + settings.timeout
    outputs_until = min(deadline, time.monotonic() + OUTPUT_SECONDS)
    try:
        while (
            len(dumps) < len(wanted)
            or model.snapshot is None
            or (len(outputs) < len(questions) and time.monotonic() < outputs_until)
        ):
            if time.monotonic() >= deadline:
                raise ServiceError(
                    f"the scheduler did not answer at {settings.monitor_address} within {settings.timeout:g} s; is it running, "
                    f"and is this the monitor address that it logged?"
                )
            frames = subscriber.receive(_POLL_SECONDS)
            if subscriber.watch.refusal:
                raise refused_error(settings.monitor_address, subscriber.watch.refusal)
            if frames is None:
                continue
            try:
                message = decode(frames[1:])
            except WireError:
                continue
            if isinstance(message, MonitorDump):
                number = dumped_task(bytes(frames[0]))
                # A subscription to task 1 also brings the dumps that somebody else asks of task 12.
                if number in wanted:
                    dumps[number] = message
            elif isinstance(message, MonitorOutput):
                if message.number in wanted and message.subject == ANY_CLIENT:
                    outputs[message.number] = message
            elif isinstance(message, MonitorSnapshot | MonitorEvents | MonitorFailures | MonitorLog):
                model.accept(message, time.monotonic())
    finally:
        subscriber.close()
    return document_of(dumps, model, settings, outputs)


def document_of(
    dumps: dict[int, MonitorDump],
    model: ClusterModel,
    settings: DumpSettings,
    outputs: Mapping[int, MonitorOutput] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what the file says. `dumps` are the answers by the number of the task asked for, 0 for none; likewise `outputs`.

    Raises ServiceError if an answer cannot be read.
    """
    told = [_read(dump, settings) for dump in dumps.values()]
    newest = max(dumps.values(), key=lambda dump: dump.time_seconds)
    return {
        "unix_time": newest.time_seconds,
        "scheduler": {key: value for key, value in told[-1].items() if key != "tasks_asked_for"},
        "tasks_asked_for": [
            {
                "number": number,
                "unfinished": dump["tasks_asked_for"],
                "failures": _failures(model, number),
                "output": output_data(outputs[number]) if number in outputs else None,
            }
            for number, dump in zip(dumps, told, strict=True)
            if number
        ],
        "figures": figures.whole(model, 0.0, settings.timeout),
        "log": log_after(model, 0)["lines"],
    }


def _read(dump: MonitorDump, settings: DumpSettings) -> dict[str, Any]:
    try:
        told = json.loads(dump.json, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _unreadable(settings, str(error)) from None
    if not isinstance(told, dict) or not isinstance(told.get("tasks_asked_for"), list):
        raise _unreadable(settings, "expected an object with a list tasks_asked_for")
    return told


def _refuse_constant(name: str) -> NoReturn:
    # Python takes and writes NaN and Infinity, which are no JSON: other programs could not read the file.
    raise ValueError(f"{name} is no JSON")


def text_of(document: dict[str, Any], settings: DumpSettings) -> str:
    """Return the content of the file. Raises ServiceError if what the scheduler said cannot be written as JSON."""
    try:
        return json.dumps(document, indent=1, allow_nan=False)
    # Of numbers, 1e999 is read as infinity; of lists, writing takes fewer inside each other than reading.
    except (ValueError, RecursionError) as error:
        raise _unreadable(settings, str(error)) from None


def _unreadable(settings: DumpSettings, reason: str) -> ServiceError:
    return ServiceError(f"the scheduler at {settings.monitor_address} sent a dump that cannot be read: {reason}")


def _failures(model: ClusterModel, number: int) -> list[dict[str, Any]]:
    return [failure for failure in figures.failures(model, limit=1_000) if failure["number"] == number]
