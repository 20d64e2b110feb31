"""Exceptions of tasks on their way to whoever submitted them.

`failure_payload` is called where the task ran, `load_exception` where its answer is read. Nothing here raises because of what
an exception is or does, and nothing needs more than the standard library, but for classes that travel by value
(`cloudpickle`): all of it can travel by value itself.
"""

from scaler_protocol.failures.facts import TEXT_MAX, Run, text_of, type_name_of
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
    "load_exception",
    "named_failure_payload",
    "named_text_of",
    "not_restored_payload",
    "result_error",
    "same_text",
    "text_of",
    "type_name_of",
]
