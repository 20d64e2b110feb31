"""By what an adapter knows its own again."""

from __future__ import annotations

import json

import pytest

from scaler_adapters.identity import GroupMark, adapter_name
from scaler_adapters.native.settings import NativeAdapterSettings


def name_of(*arguments: str) -> str:
    return adapter_name(NativeAdapterSettings.from_command_line([*arguments]))


def test_the_same_scheduler_host_and_port_are_the_same_adapter() -> None:
    name = name_of("tcp://127.0.0.1:2345", "--port=8081")
    assert name == name_of("tcp://127.0.0.1:2345", "--port=8081", "--max-workers=3")
    assert name != name_of("tcp://127.0.0.1:2346", "--port=8081")
    assert name != name_of("tcp://127.0.0.1:2345", "--port=8082")
    assert name != name_of("tcp://127.0.0.1:2345", "--port=8081", "--host=127.0.0.2")


def test_nobody_finds_an_adapter_at_a_free_port_again() -> None:
    assert name_of("tcp://127.0.0.1:2345", "--port=0") != name_of("tcp://127.0.0.1:2345", "--port=0")


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = GroupMark("1a2b", "r1", {"linux": -1, "gpu": 2})
    assert GroupMark.from_json(mark.to_json(), "unknown") == mark


@pytest.mark.parametrize("text", ["", "{", "[]", "7", json.dumps({"name": "1a2b"})])
def test_a_group_whose_mark_was_changed_has_a_name_still(text: str) -> None:
    assert GroupMark.from_json(text, "job-17") == GroupMark("job-17", "", {})
