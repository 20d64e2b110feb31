"""The policy `even` ignores the capabilities that tasks ask for: a client that asks for some is told so, once a session."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.clients import ClientRecord
from scaler_scheduler.core.outbox import Outbox

CAPABILITIES_IGNORED = "capabilities_ignored"
"""The kind of the notice."""

_TEXT = (
    "tasks ask for capabilities, and this scheduler ignores them: it runs with --allocate-policy even. "
    "Start it with --allocate-policy capability (the default) to have them honoured"
)


def tell_ignored(client: ClientRecord, outbox: Outbox) -> None:
    """Tell a client whose tasks ask for capabilities, unless it was told already."""
    if not client.ignored_capabilities_told:
        client.ignored_capabilities_told = True
        outbox.send(client, m.Notice(_TEXT, kind=CAPABILITIES_IGNORED))
