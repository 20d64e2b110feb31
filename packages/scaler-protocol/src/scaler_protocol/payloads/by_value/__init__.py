"""Pickling by value of objects that the receiver cannot import: functions and classes of `__main__`, notebooks and functions.

cloudpickle does most of it. This package adds five things. A class is restored as it is, with its slots, its enumeration
members and its class keywords. Restoring a class never changes one that the receiver already has (see `classes`). Code
keeps the name of its file and brings its source lines along (see `sources`). Names that class bodies inside
a function use travel with the function (see `nested`). Types of C code without an importable name are found or made again at
the receiver (see `interpreter_types`, `ctypes_types`).

The modules here need only the standard library and cloudpickle, because the Symphony adapter sends them to hosts that have
nothing else.
"""

from scaler_protocol.payloads.by_value.pickler import APART_BYTES_MIN, PROTOCOL, Pickler, dumps, dumps_apart

__all__ = ["APART_BYTES_MIN", "PROTOCOL", "Pickler", "dumps", "dumps_apart"]
