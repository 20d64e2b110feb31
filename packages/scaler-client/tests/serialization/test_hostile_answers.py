"""Answers that no worker of ours sends are errors that say so. Nothing else comes out of reading them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from scaler import DeserializeObjectError
from scaler.serialization.results import load_failure, load_outcomes


@pytest.mark.parametrize(
    "failure",
    [
        (),
        1,
        (b"", 1, "text", "traceback"),
        (b"", [], "text", "traceback"),
        ("", "E", "text", ""),
        (b"x", "E", None, ""),
    ],
    ids=repr,
)
def test_a_failure_of_another_shape_is_one_error(failure: Any) -> None:
    error = load_failure(b"P" + pickle.dumps(failure), 7)
    assert type(error) is DeserializeObjectError
    assert "task 7 failed, and its exception cannot be restored" in str(error)


@pytest.mark.parametrize("answer", [(), 1, (1, {}), ([], 1), ([], {"a": b""}), ([], {}, 1), "ab"], ids=repr)
def test_a_chunk_of_another_shape_is_one_error(answer: Any) -> None:
    with pytest.raises(DeserializeObjectError, match="cannot be restored"):
        load_outcomes(b"P" + pickle.dumps(answer))
