"""What an agent and its template say to each other: one SEQPACKET packet each.

agent ── ProcessorOptions as JSON, first of all ──▶ template
agent ── START (number and slot; four descriptors beside it) ──▶ template
      ◀── FORKED (number, pid), EXITED (number, pid, status, peak memory, cause), STOPPED (number, pid) ──
"""

from __future__ import annotations

import struct

DESCRIPTORS = 4
"""Sent with START: task channel, control channel, page, standard error."""

OPTIONS_BYTES_MAX = 128 * 1024
MODULE_NAME_BYTES_MAX = 1024

IMPORTED_AHEAD = frozenset({"scaler.client.operations"})
"""What a template imports when a task asks for it. Nothing else: tasks must not choose what runs there."""

START = struct.Struct("=QI")
"""(number, slot)"""
REPORT = struct.Struct("=BQiqQB")
"""(FORKED, EXITED or STOPPED, number, pid, exit status as `subprocess` gives it, peak memory in bytes, `Cause` of the end)"""

FORKED, EXITED, STOPPED = 1, 2, 3

OWN_HASH_SEED = "own-hash-seed"
"""An argument of the template: `PYTHONHASHSEED` is the agent's choice, and not in the environment of tasks."""

FORK_FAILED_STATUS = -1
"""With pid 0: no process was made."""
