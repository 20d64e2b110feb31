"""The names and keywords that programs and libraries rely on."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import scaler
from scaler import AsyncClient, Client, Cluster, ScalerFuture, Scheduler, SchedulerClusterCombo, errors
from scaler.scheduler.allocate_policy.allocate_policy import AllocatePolicy
from scaler.utility import exceptions


def keywords(of: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(of).parameters if name != "self"]


def test_the_readme_imports() -> None:
    for name in ("Client", "ScalerFuture", "Serializer", "SchedulerClusterCombo", "Cluster", "Scheduler"):
        assert name in scaler.__all__
        assert inspect.isclass(getattr(scaler, name))


def test_errors_that_programs_catch_are_found_at_the_top() -> None:
    for name in ("ProcessorDiedError", "RemoteTaskError", "SerializationError", "NoWorkerError", "DisconnectedError"):
        assert getattr(scaler, name) is getattr(errors, name)


def test_client_keywords() -> None:
    assert keywords(Client.__init__) == [
        "address",
        "profiling",
        "timeout_seconds",
        "heartbeat_interval_seconds",
        "serializer",
        "stream_output",
        "object_storage_address",
        "security",
        "detached",
        "name",
        "group",
    ]
    defaults = {name: p.default for name, p in inspect.signature(Client.__init__).parameters.items()}
    assert (defaults["timeout_seconds"], defaults["heartbeat_interval_seconds"]) == (60, 2)


def test_an_asynchronous_client_has_the_settings_of_the_plain_one() -> None:
    """It passes them on by hand, some by their position."""
    of_both = [inspect.signature(one.__init__).parameters for one in (Client, AsyncClient)]
    assert list(of_both[0].items()) == list(of_both[1].items())


def test_an_asynchronous_client_passes_on_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def note(*args: Any, **kwargs: Any) -> Any:
        given.update(inspect.signature(Client.__init__).bind(None, *args, **kwargs).arguments)
        raise LookupError("that is all")

    names = keywords(Client.__init__)
    values = {name: object() for name in names}
    # Nothing is awaited, and so no thread runs: inside a task there is nothing to wait for.
    values["address"] = None
    monkeypatch.setattr("scaler.client.async_client.Client", note)
    with pytest.raises(LookupError, match="that is all"):
        asyncio.run(AsyncClient(**values).connect())  # type: ignore[arg-type]
    del given["self"]
    assert given == values


def test_method_keywords() -> None:
    assert keywords(Client.submit) == ["fn", "args", "kwargs"]
    assert keywords(Client.submit_verbose) == ["fn", "args", "kwargs", "capabilities", "options"]
    assert keywords(Client.map) == ["fn", "iterables", "capabilities", "progress", "timeout", "ordered", "options"]
    assert keywords(Client.starmap) == ["fn", "iterable", "capabilities", "progress", "timeout", "ordered", "options"]
    assert keywords(Client.get) == ["graph", "keys", "block", "capabilities", "progress", "options"]
    assert keywords(Client.prepare) == ["graph", "keys", "capabilities", "node_seconds", "options"]
    assert keywords(Client.send_object) == ["obj", "name"]
    assert keywords(ScalerFuture.cancel) == ["timeout"]


STORAGE_KEYWORDS = ("memory_bytes", "path", "url", "endpoint", "password_file", "timeout_seconds", "disk_bytes")
"""Of a scheduler, for the storage server that it starts, without `object_storage_`."""


def test_combo_keywords_are_written_out() -> None:
    names = keywords(SchedulerClusterCombo.__init__)
    assert names[:8] == [
        "n_workers",
        "address",
        "object_storage_address",
        "monitor_address",
        "per_worker_capabilities",
        "event_loop",
        "per_worker_task_queue_size",
        "protected",
    ]
    for name in (*keywords(Scheduler.__init__), *keywords(Cluster.__init__)):
        # A combo has settings of its own for the storage server, wherever that runs.
        of_storage = name.startswith("object_storage_") and name.removeprefix("object_storage_") in STORAGE_KEYWORDS
        assert name in names or of_storage or name in ("io_threads", "ends_cluster", "security_dir")
    assert {"memory_limit_bytes", "storage_path", "storage_url", "disk_limit_bytes"} <= set(names)
    assert {"storage_endpoint", "storage_password_file", "storage_timeout_seconds"} <= set(names)


def test_every_error_is_a_scaler_error_and_found_in_both_places() -> None:
    for name in exceptions.__all__:
        error = getattr(exceptions, name)
        assert getattr(errors, name) is error
        assert issubclass(error, errors.ScalerError)
    drawn = set(errors.__doc__.split())
    defined = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined <= drawn
    assert defined == set(exceptions.__all__)


def test_errors_are_what_python_calls_them() -> None:
    assert issubclass(errors.TaskTimeoutError, TimeoutError)
    assert issubclass(errors.ClientCancelledException, CancelledError)
    assert issubclass(errors.SerializationError, TypeError)
    assert issubclass(errors.GraphError, ValueError)
    assert str(errors.GraphKeyError("key 'a' is not there")) == "key 'a' is not there"
    remote = errors.RemoteTaskError("m.E", "text", "lines")
    assert "m.E: text" in str(remote)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("scaler.client.future", "ScalerFuture"),
        ("scaler.client.object_reference", "ObjectReference"),
        ("scaler.utility.exceptions", "ProcessorDiedError"),
        ("scaler.worker.agent.processor.processor", "Processor"),
        ("scaler.cluster.combo", "SchedulerClusterCombo"),
        ("scaler.cluster.cluster", "Cluster"),
        ("scaler.cluster.scheduler", "Scheduler"),
        ("scaler.cluster.scheduler", "SchedulerProcess"),
        ("scaler.scheduler.allocate_policy.allocate_policy", "AllocatePolicy"),
        ("scaler.client.serializer", "Serializer"),
        ("scaler.client.serializer.mixins", "Serializer"),
        ("scaler.client.serializer.default", "DefaultSerializer"),
    ],
)
def test_names_that_libraries_import(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("older", "name"),
    [
        ("scaler.cluster.combo", "SchedulerClusterCombo"),
        ("scaler.cluster.cluster", "Cluster"),
        ("scaler.cluster.scheduler", "Scheduler"),
        ("scaler.client.serializer.mixins", "Serializer"),
    ],
)
def test_older_places_have_the_same_objects(older: str, name: str) -> None:
    assert getattr(importlib.import_module(older), name) is getattr(scaler, name)


def test_older_places_are_as_light_as_the_package() -> None:
    names = ("cluster.combo", "cluster.cluster", "cluster.scheduler", "client.serializer.default")
    imports = "".join(f"import scaler.{name};" for name in (*names, "scheduler.allocate_policy.allocate_policy"))
    program = f"import sys; {imports} print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert not {"cloudpickle", "pydantic", "capnp", "asyncio", "subprocess"} & set(run.stdout.split())


def test_the_version_is_that_of_the_distribution() -> None:
    assert scaler.__version__ == version("scaler-client")


def test_policies_may_be_given_as_members() -> None:
    assert [*AllocatePolicy] == ["even", "capability"]
    assert Scheduler(allocate_policy=AllocatePolicy.even).command_line[-1] == "--allocate-policy=even"


def test_init_has_imports_and_all_only() -> None:
    tree = ast.parse(Path(scaler.__file__).read_text(encoding="utf-8"))
    body = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    assert [type(node) for node in body] == [ast.Expr, ast.Assign]
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(scaler.__all__) == scaler.__all__ == sorted(imported)
