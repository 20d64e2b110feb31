"""Writes `clients/node/src/layout.ts`: where the fields of messages are, from the schema of the protocol.

Node's client has no Cap'n Proto library (those of npm need a compiler that is installed apart, or are not finished): it reads and
writes the few kinds of messages that clients use by this table. Run this after a change of the schema; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import capnp

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "packages/scaler-protocol/src/scaler_protocol/wire/schema/scaler.capnp"
LAYOUT = ROOT / "clients/node/src/layout.ts"

KINDS = (
    "hello",
    "welcome",
    "refused",
    "unknownPeer",
    "heartbeat",
    "goodbye",
    "taskBatch",
    "resultBatch",
    "functionDefine",
    "taskCancel",
    "creditRequest",
    "creditGrant",
    "graphSubmit",
    "output",
    "shutdown",
    "notice",
    "objectPut",
    "objectPutReply",
    "objectGet",
    "objectData",
    "objectDelete",
    "objectDeleteReply",
    "objectBatch",
)
"""The messages that clients send or get and Node's client knows."""

_TYPES = {
    "bool": "boolean",
    "uint8": "number",
    "uint16": "number",
    "uint32": "number",
    "int64": "bigint",
    "uint64": "bigint",
    "float32": "number",
    "float64": "number",
    "enum": "number",
    "text": "string",
    "data": "Uint8Array",
    "void": "null",
}
_HEAD = """// Where the fields of messages are, from the schema. Written by scripts/write_node_layout.py: do not edit.

/** A field: its type, and where it is: a number of elements of its type, or the number of its pointer. */
export type Field = readonly [name: string, type: string, offset: number];

/** A struct: words of data, pointers, fields. A name as type of a field is another struct; "[X]" is a list of X. */
export interface Layout {
  readonly data: number;
  readonly pointers: number;
  readonly fields: readonly Field[];
}
"""


def layout_text() -> str:
    """Return the text of the file."""
    capnp.remove_import_hook()
    schema = capnp.load(str(SCHEMA))
    structs = {
        value.schema.node.id: (name, value.schema.node)
        for name, value in vars(schema).items()
        if hasattr(value, "schema") and value.schema.node.which() == "struct"
    }
    message = next(node for name, node in structs.values() if name == "Message")
    members = {field.name: field for field in message.struct.fields}
    used = dict.fromkeys(_used_structs([members[kind] for kind in KINDS], structs))
    lines = [_HEAD]
    for identity in used:
        lines += _interface(*structs[identity], structs)
    lines += ["/** The kinds of messages, and what each of them contains. */", "export interface Bodies {"]
    lines += [f"  {kind}: {_type(members[kind], structs)[1]};" for kind in KINDS]
    lines += ["}", "", "export const STRUCTS: Readonly<Record<string, Layout>> = {"]
    for identity in used:
        lines += _layout(*structs[identity], structs)
    lines += ["};", "", "/** `Message`: its size, where the number of its kind is (in 16 bits), and the kinds. */"]
    lines += ["export const MESSAGE = {"]
    lines += [f"  data: {message.struct.dataWordCount},", f"  pointers: {message.struct.pointerCount},"]
    lines += [f"  kindAt: {message.struct.discriminantOffset},", "  kinds: {"]
    for kind in KINDS:
        field = members[kind]
        lines.append(f'    {kind}: [{field.discriminantValue}, "{_type(field, structs)[0]}", {field.slot.offset}],')
    lines += [
        "  } as Readonly<Record<keyof Bodies, readonly [number: number, type: string, offset: number]>>,",
        "};",
        "",
    ]
    return "\n".join(lines)


def _type(field: Any, structs: dict[int, tuple[str, Any]]) -> tuple[str, str]:
    """Return a field's type in the table, and in TypeScript."""
    kind = field.slot.type.which()
    if kind == "struct":
        name = structs[field.slot.type.struct.typeId][0]
        return name, name
    if kind == "list":
        element = field.slot.type.list.elementType
        name = structs[element.struct.typeId][0] if element.which() == "struct" else element.which()
        return f"[{name}]", f"{_TYPES.get(name, name)}[]"
    return "uint16" if kind == "enum" else kind, _TYPES[kind]


def _used_structs(fields: list[Any], structs: dict[int, tuple[str, Any]]) -> Iterator[int]:
    for field in fields:
        found = field.slot.type
        if found.which() == "list":
            found = found.list.elementType
        if found.which() == "struct":
            yield found.struct.typeId
            yield from _used_structs(list(structs[found.struct.typeId][1].struct.fields), structs)


def _interface(name: str, node: Any, structs: dict[int, tuple[str, Any]]) -> Iterator[str]:
    yield f"export interface {name} {{"
    yield from (f"  {field.name}: {_type(field, structs)[1]};" for field in node.struct.fields)
    yield from ("}", "")


def _layout(name: str, node: Any, structs: dict[int, tuple[str, Any]]) -> Iterator[str]:
    yield f"  {name}: {{"
    yield f"    data: {node.struct.dataWordCount},"
    yield f"    pointers: {node.struct.pointerCount},"
    yield "    fields: ["
    for field in node.struct.fields:
        yield f'      ["{field.name}", "{_type(field, structs)[0]}", {field.slot.offset}],'
    yield from ("    ],", "  },")


if __name__ == "__main__":
    LAYOUT.write_text(layout_text(), encoding="utf-8")
