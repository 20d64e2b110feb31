"""Whether a process that was named earlier has ended."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from scaler_protocol.service import process_identity
from scaler_protocol.service.process_identity import described, has_ended, this_process

NAMES_ITSELF = (
    "import json, sys; from scaler_protocol.service.process_identity import this_process\n"
    "print(json.dumps(this_process()), flush=True); sys.stdin.read()"
)


def test_a_process_has_ended_when_it_is_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NAMES_ITSELF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        identity = json.loads(process.stdout.readline())
        assert not has_ended(identity)
        assert described(identity).startswith(f"process {process.pid} on ")
        process.kill()
    assert has_ended(identity)


def test_of_other_machines_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_process()
    assert not has_ended(here)
    assert has_ended({**here, "started": "1"}), "another process has its number now"
    assert not has_ended({**here, "started": "1", "machine": "another"})
    assert not has_ended({})
    assert described({}) == "process unknown on an unknown host"
    monkeypatch.setattr(process_identity, "_machine", lambda: "")
    assert not has_ended({**here, "started": "1", "machine": ""}), "who cannot tell machines apart knows nothing"
