"""Requests to object storage, and their answers, that leave together: neighbours of one kind become rows of one message.

An object of some hundred KiB is handled in less time than its messages take. So whoever has several messages for the same
peer passes them through `joined`, and sends what it returns; a receiver takes the rows of a batch, as `rows_of` returns
them, one after another. Nothing waits for a batch to fill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import BATCH_ROWS_MAX
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import raw_view

PUTS_MAX = 16
"""Most puts of a batch. They cost the server more than anything else, and it takes all rows of a batch in one turn."""

SMALL_BYTES_MAX = 16 * 1024
"""Objects up to this size may travel together with their bytes, which are copied for that."""

_Key = tuple[Any, ...]


def joined(messages: Sequence[m.Message]) -> list[m.Message]:
    """Return the same messages in the same order, with neighbours that fit together as rows of an `ObjectBatch`."""
    if len(messages) < 2:
        return list(messages)
    out: list[m.Message] = []
    rows: list[Any] = []
    of: _Key | None = None
    for message in messages:
        key = _key_of(message)
        if rows and (key != of or len(rows) == (PUTS_MAX if type(message) is m.ObjectPut else BATCH_ROWS_MAX)):
            out.append(_batch(of, rows))
            rows = []
        if key is None:
            out.append(message)
        else:
            rows.append(message)
        of = key
    if rows:
        out.append(_batch(of, rows))
    return out


def rows_of(batch: m.ObjectBatch) -> list[m.Message]:
    """Return the messages that a batch stands for."""
    return _ROWS[m.BatchKind(batch.kind)](batch)


def _key_of(message: m.Message) -> _Key | None:
    """Return what messages of one batch have in common; None for one that travels alone."""
    kind = type(message)
    if isinstance(message, m.ObjectPut):
        return (
            (m.BatchKind.PUTS, message.owner) if message.place and not message.name and not message.incomplete else None
        )
    if isinstance(message, m.ObjectGet):
        if message.size or message.keeps_at:
            return None
        return m.BatchKind.GETS, message.wait_seconds, message.mappable, message.follows_homes, message.pieces
    if isinstance(message, m.ObjectData):
        if message.place:
            return (m.BatchKind.DATA, True)
        return (m.BatchKind.DATA, False) if not message.missing and _is_small(message.buffers) else None
    if isinstance(message, m.ObjectPutReply | m.ObjectDeleteReply) and message.status == m.ObjectStatus.DONE:
        return (m.BatchKind.PUT_REPLIES if kind is m.ObjectPutReply else m.BatchKind.DELETE_REPLIES,)
    return None


def _is_small(buffers: Sequence[Any]) -> bool:
    return sum([len(raw_view(buffer)) for buffer in buffers]) <= SMALL_BYTES_MAX


def _batch(key: _Key | None, rows: list[Any]) -> m.Message:
    assert key is not None
    if len(rows) == 1:
        return rows[0]  # type: ignore[no-any-return]
    kind = key[0]
    batch = m.ObjectBatch(kind, [row.request for row in rows])
    if kind in (m.BatchKind.PUT_REPLIES, m.BatchKind.DELETE_REPLIES):
        return batch
    batch.ids = tuple([row.id for row in rows])
    if kind is m.BatchKind.GETS:
        batch.wait_seconds, batch.mappable, batch.follows_homes, batch.pieces = key[1:]
        return batch
    if kind is m.BatchKind.DATA and not key[1]:
        batch.buffer_counts = [len(row.buffers) for row in rows]
        views = [raw_view(buffer) for row in rows for buffer in row.buffers]
        batch.contents = Packed([len(view) for view in views], b"".join(views))
        return batch
    batch.places = tuple([row.place for row in rows])
    if kind is m.BatchKind.PUTS:
        batch.owner = key[1]
    return batch


def _puts(batch: m.ObjectBatch) -> list[m.Message]:
    return [
        m.ObjectPut(request, object_id, batch.owner, [], "", place)
        for request, object_id, place in zip(batch.requests, batch.ids, batch.places, strict=True)
    ]


def _gets(batch: m.ObjectBatch) -> list[m.Message]:
    shared = batch.wait_seconds, batch.mappable, batch.follows_homes, batch.pieces
    return [
        m.ObjectGet(request, object_id, *shared) for request, object_id in zip(batch.requests, batch.ids, strict=True)
    ]


def _data(batch: m.ObjectBatch) -> list[m.Message]:
    if not batch.places:
        buffers = iter(batch.contents.split())
        return [
            m.ObjectData(request, object_id, list(islice(buffers, count)))
            for request, object_id, count in zip(batch.requests, batch.ids, batch.buffer_counts, strict=True)
        ]
    return [
        m.ObjectData(request, object_id, place=place)
        for request, object_id, place in zip(batch.requests, batch.ids, batch.places, strict=True)
    ]


_ROWS: dict[m.BatchKind, Callable[[m.ObjectBatch], list[m.Message]]] = {
    m.BatchKind.PUTS: _puts,
    m.BatchKind.GETS: _gets,
    m.BatchKind.DATA: _data,
    m.BatchKind.PUT_REPLIES: lambda batch: [m.ObjectPutReply(request) for request in batch.requests],
    m.BatchKind.DELETE_REPLIES: lambda batch: [m.ObjectDeleteReply(request) for request in batch.requests],
}
