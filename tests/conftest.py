"""With SCALER_TEST_SECURITY, every cluster and every client of the tests has keys; `tests/with_keys` gives them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.with_keys import sitecustomize

KEYS = os.environ.get("SCALER_TEST_SECURITY", "")
"""A security directory, 1 for a new one, or empty: no keys."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With keys, skips the tests that the marker `without_keys` names, with its reason."""
    for item in items:
        for marker in item.iter_markers("without_keys"):
            (reason,) = marker.args
            if KEYS:
                item.add_marker(pytest.mark.skip(reason=f"without keys only: {reason}"))


@pytest.fixture(scope="session", autouse=True)
def keys_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give keys to every cluster and every client of these tests that says nothing else, if the tests run with keys."""
    if not KEYS:
        yield
        return
    # Not above: the architecture's tests run where no package is installed.
    from scaler_protocol.testing.security_directory import make_security_directory

    path = make_security_directory(tmp_path_factory.mktemp("security") / "keys") if KEYS == "1" else Path(KEYS)
    end = sitecustomize.install(str(path.absolute()))
    with pytest.MonkeyPatch.context() as patch:
        # Tasks look at the variables of Scaler that they see.
        patch.delenv("SCALER_TEST_SECURITY")
        yield
    end()
