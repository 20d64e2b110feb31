"""Batches of a single task or result, which an idle system sends one at a time: the same bytes, five times as fast.

Under load a message carries hundreds of rows, and the cost of its columns does not matter. A single task's round trip
writes or reads a batch seven times, each time in code that has slept before. For the usual forms of such a batch one
`struct` call does it. For all other forms the functions return None, and the general code does it.

A form is a set of columns, named in `FORMS`; everything else comes from their declarations. A batch in which any other
column is filled has another form, so a new column needs no change here. The functions are compiled from text, as
`dataclasses` does it, because a loop over the columns would take as long as the general code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.column_table import ColumnSpec, Shape, columns_of, wire_name
from scaler_protocol.wire.columns import NO_ITEMS, Packed
from scaler_protocol.wire.envelope import Frame
from scaler_protocol.wire.flat import FlatStruct
from scaler_protocol.wire.plain_task import PLAIN_COLUMNS

FORMS: dict[type[Any], tuple[tuple[str, ...], ...]] = {
    m.TaskBatch: (
        # As clients submit them; as the scheduler assigns them.
        tuple(name for name in PLAIN_COLUMNS if name != "attempts"),
        PLAIN_COLUMNS,
    ),
    # One success, as agents report it.
    m.ResultBatch: (("numbers", "durations", "attempts", "slots", "payloads"),),
}
"""By message type: the columns that are there, in the order in which they are written. Their `payloads` are not empty."""

_SCALAR_ID = "client"

Write = Callable[[Any], "list[Frame] | None"]
Read = Callable[[bytes, Frame], Any]


class OneRow(NamedTuple):
    """Writes and reads batches of one type with a single row. Both functions return None for other forms."""

    write: Write
    read: Read


def one_row_of(message_type: type[Any], flat: FlatStruct) -> OneRow:
    """Return the two functions for the forms of `message_type`. Of a type without any they know none."""
    if message_type not in FORMS:
        return OneRow(lambda _batch: None, lambda _header, _payload: None)
    return _Maker(message_type, flat).make()


class _Maker:
    def __init__(self, message_type: type[Any], flat: FlatStruct) -> None:
        self._type = message_type
        self._flat = flat
        self._columns = {spec.name: spec for spec in columns_of(message_type)}
        self._forms = [tuple(self._columns[name] for name in form) for form in FORMS[message_type]]
        self._common = set.intersection(*({spec.name for spec in form} for form in self._forms))
        attributes = {wire_name(entry.name): entry.name for entry in fields(message_type)}
        self._numbers = [attributes[name] for name in flat.number_names]
        self._names: dict[str, Any] = {"Message": message_type, "Packed": Packed, "NO_ITEMS": NO_ITEMS}
        """The names that the text of the functions uses."""

    def make(self) -> OneRow:
        for number, form in enumerate(self._forms):
            blobs = [(self._flat.blob_slots[_SCALAR_ID], f"{ID_BYTES}s")]
            blobs += [(self._flat.blob_slots[spec.wire], _code(spec)) for spec in form]
            fixed = self._flat.fixed(blobs)
            self._names |= {
                f"pack{number}": fixed.form.pack,
                f"unpack{number}": fixed.form.unpack,
                f"size{number}": fixed.form.size,
                f"start{number}": fixed.start,
                f"pointers{number}": fixed.pointers,
            }
        exec("\n".join((*self._write_text(), *self._read_text())), self._names)
        return OneRow(self._names["write"], self._names["read"])

    def _write_text(self) -> list[str]:
        common = [self._columns[name] for name in self._columns if name in self._common]
        counted = [f"len(batch.{spec.name}) != 1" for spec in common if spec.shape is not Shape.BLOBS]
        lines = [
            "def write(batch):",
            "    payload = batch.payloads.data",
            f"    if {' or '.join([*counted, 'not payload', *self._unused()])}:",
            "        return None",
        ]
        # The form with most columns first: a form is recognized by the columns that not all forms have.
        for number, form in sorted(enumerate(self._forms), key=lambda entry: -len(entry[1])):
            own = [f"len(batch.{spec.name})" for spec in form if spec.name not in self._common]
            values = [f"batch.{name}" for name in self._numbers] + [f"pointers{number}", f"batch.{_SCALAR_ID}"]
            values += ["len(payload)" if spec.shape is Shape.BLOBS else f"batch.{spec.name}[0]" for spec in form]
            lines += [
                f"    if {' and '.join(own) or 'True'}:",
                f"        return [pack{number}(start{number}, {', '.join(values)}), payload]",
            ]
        return lines

    def _unused(self) -> list[str]:
        """Return an expression that is true if a field is set that no form has."""
        used = {spec.name for form in self._forms for spec in form} | {*self._numbers, _SCALAR_ID}
        unused = []
        for entry in fields(self._type):
            if entry.name not in used and entry.compare:
                spec = self._columns.get(entry.name)
                # An array may be present and empty; any other value is present if it is true.
                unused.append(f"len(batch.{entry.name})" if spec is not None else f"batch.{entry.name}")
        return unused

    def _read_text(self) -> list[str]:
        lines = ["def read(header, payload):", "    size = len(header)"]
        for number, form in enumerate(self._forms):
            values = [*self._numbers, "pointers", _SCALAR_ID, *(spec.name for spec in form)]
            lines += [
                f"    if size == size{number}:",
                f"        start, {', '.join(values)} = unpack{number}(header)",
                f"        if start != start{number} or pointers != pointers{number} or payloads != len(payload):",
                "            return None",
                f"        return Message({', '.join(self._arguments({spec.name for spec in form}))})",
            ]
        return [*lines, "    return None"]

    def _arguments(self, form: set[str]) -> list[str]:
        """Return the arguments that make the message, by position."""
        arguments = []
        for entry in fields(self._type):
            if entry.name == "payloads":
                arguments.append("Packed((payloads,), payload)")
            elif entry.name in form:
                arguments.append(f"({entry.name},)")
            elif entry.name in self._numbers or entry.name == _SCALAR_ID:
                arguments.append(entry.name)
            elif entry.name == "frames":
                arguments.append("[header, payload]")
            elif entry.default is not MISSING:
                self._names[f"no_{entry.name}"] = entry.default
                arguments.append(f"no_{entry.name}")
            else:
                assert entry.default_factory is Packed, entry.name
                arguments.append("NO_ITEMS")
        return arguments


def _code(spec: ColumnSpec) -> str:
    """Return the `struct` code of a column's only value; for a byte string, of its length."""
    return {Shape.ROWS: spec.typecode, Shape.BLOBS: "I", Shape.TABLE: f"{ID_BYTES}s"}[spec.shape]
