"""Topics of the monitor streams: what is asked for comes back; anything else is no topic of that kind."""

from __future__ import annotations

import pytest

from scaler_protocol.monitoring.topics import (
    OBJECT_WORDS_BYTES_MAX,
    ObjectsTopic,
    dump_topic,
    graph_topic,
    listed_objects,
    objects_topic,
    task_output_topic,
)
from scaler_protocol.wire.envelope import Envelope, encode_envelope


@pytest.mark.parametrize(
    "wanted",
    [
        ObjectsTopic(),
        ObjectsTopic(200, 1, True, b"c" * 16, "quotes, für alle"),
        ObjectsTopic(0, 6, False, b"", "x" * OBJECT_WORDS_BYTES_MAX),
    ],
)
def test_a_page_of_objects_is_what_was_asked_for(wanted: ObjectsTopic) -> None:
    assert listed_objects(objects_topic(wanted)) == wanted


def test_other_topics_ask_for_no_objects() -> None:
    mine = objects_topic(ObjectsTopic())
    for topic in (
        b"",
        mine[:-1],
        mine + b"\xff",
        mine + b"x" * (OBJECT_WORDS_BYTES_MAX + 1),
        encode_envelope(Envelope(0, 0, 2, 6)) + bytes(16),
        encode_envelope(Envelope(0, 256, 0, 6)) + bytes(16),
        encode_envelope(Envelope(2**40, 0, 0, 6)) + bytes(16),
        dump_topic(),
        graph_topic(bytes(16), 1),
        task_output_topic(7),
    ):
        assert listed_objects(topic) is None
