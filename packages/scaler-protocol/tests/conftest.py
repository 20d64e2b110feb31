"""The golden examples as a parameter: a test that takes `example_name` runs for each of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

# How long an example takes, or is made, says more about the machine than about the code; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("scaler", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("scaler")

collect_ignore: list[str] = []
if sys.platform != "linux":
    # Services run on Linux only, and with them what they refuse, write down and measure.
    collect_ignore += ["service", "test_web_access.py", "test_web_connections.py"]
    collect_ignore += ["security/test_audit.py", "transport/test_unfinished.py"]
if os.name != "posix":
    # Keys are kept from others by the modes of files, which do not exist there.
    collect_ignore += [f"security/test_{name}.py" for name in ("command", "directory", "private_files")]


def _load_examples() -> ModuleType:
    path = Path(__file__).parent / "wire" / "golden" / "examples.py"
    specification = importlib.util.spec_from_file_location("scaler_protocol_golden_examples", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


_examples = _load_examples()


def canonical(value: Any) -> Any:
    """Return `value` with columns as tuples and buffers as bytes, so that what means the same is equal."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # `frames` is how a batch arrived, not what it says.
        names = [field.name for field in dataclasses.fields(value) if field.name != "frames"]
        return type(value).__name__, {name: canonical(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple | array | range):
        return tuple(canonical(item) for item in value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "example_name" in metafunc.fixturenames:
        metafunc.parametrize("example_name", _examples.EXAMPLES)


@pytest.fixture(scope="session")
def examples() -> ModuleType:
    """The module `wire/golden/examples.py`."""
    return _examples


@pytest.fixture(scope="session", name="canonical")
def _canonical() -> Callable[[Any], Any]:
    """The function `canonical`."""
    return canonical
