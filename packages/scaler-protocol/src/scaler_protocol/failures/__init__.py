"""Exceptions of tasks on their way to the client that submitted them.

`failure_payload` is called in the process that ran the task, `load_exception` in the one that reads the answer. Whatever an
exception is or does, nothing here raises because of it. The modules need the standard library only, and cloudpickle for
classes that travel by value. So they can travel by value themselves.
"""

from scaler_protocol.failures.facts import TEXT_MAX, Run, full_names_of, text_of, type_name_of
from scaler_protocol.failures.payload import (
    brief_failure_payload,
    failure_payload,
    named_failure_payload,
    named_text_of,
    not_restored_payload,
    result_error,
)
from scaler_protocol.failures.transport import StandIn, load_exception, same_text

__all__ = [
    "TEXT_MAX",
    "Run",
    "StandIn",
    "brief_failure_payload",
    "failure_payload",
    "full_names_of",
    "load_exception",
    "named_failure_payload",
    "named_text_of",
    "not_restored_payload",
    "result_error",
    "same_text",
    "text_of",
    "type_name_of",
]
