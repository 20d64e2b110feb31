"""Pickling by value what the other end cannot import: functions and classes of `__main__`, of notebooks and of functions.

cloudpickle does most of it. This package adds five things. A class is restored as it is, with its slots, its enumeration
members and its class keywords. Restoring a class never changes one that the receiver already has (see `classes`). Code
keeps the name of its file and brings its source lines along (see `sources`). What class bodies inside a function name travels
with the function (see `nested`). And types that are no classes of Python code,
and have no name either, are found or made again at the receiver (see `interpreter_types`, `ctypes_types`).

The modules here need the standard library and cloudpickle only, as the Symphony adapter sends them to where no more is.
"""

from scaler_protocol.payloads.by_value.pickler import PROTOCOL, Pickler, dumps, dumps_apart

__all__ = ["PROTOCOL", "Pickler", "dumps", "dumps_apart"]
