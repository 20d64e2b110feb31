"""Some policies ignore the capabilities that tasks ask for: a client that asks for some is told so, once a session."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.outbox import MessageOutbox
from scaler_scheduler.core.records import ClientRecord

CAPABILITIES_IGNORED = "capabilities_ignored"
"""The kind of the notice."""


def tell_ignored(client: ClientRecord, policy: str, outbox: MessageOutbox) -> None:
    """Tell a client whose tasks ask for capabilities that this policy ignores them, unless it was told already."""
    if not client.ignored_capabilities_reported:
        client.ignored_capabilities_reported = True
        text = (
            f"tasks ask for capabilities, and this scheduler ignores them: it runs with --allocate-policy {policy}. "
            "Start it with --allocate-policy capability (the default) to have them honoured"
        )
        outbox.send(client, m.Notice(text, kind=CAPABILITIES_IGNORED))
