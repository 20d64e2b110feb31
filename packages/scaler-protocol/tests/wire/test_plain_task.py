"""Which tasks are plain."""

from __future__ import annotations

from dataclasses import replace

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.plain_task import is_plain, run_plainly

PLAIN = m.TaskBatch(bytes(16), [7], (b"f" * 16,), Packed.of([b"arguments"]))


def test_number_function_arguments_and_attempt_are_all_that_a_plain_task_has() -> None:
    assert run_plainly(PLAIN)
    assert run_plainly(replace(PLAIN, attempts=[2], function_indexes=[0], depth=3, flags=1))


def test_a_task_with_anything_else_is_not_plain() -> None:
    assert is_plain(b"", (), (), None)
    assert not is_plain(b"s" * 16, (), (), None)
    assert not is_plain(b"", (b"o" * 16,), (), None)
    assert not is_plain(b"", (), (7,), None)
    assert not is_plain(b"", (), (), object())


def test_what_reads_other_results_or_has_a_serializer_of_its_own_is_not_plain() -> None:
    reads = replace(PLAIN, input_positions=[0], inputs=Packed.of([b"result"]))
    assert not run_plainly(reads)
    assert not run_plainly(replace(PLAIN, serializer=b"s" * 16))


def test_objects_do_not_reach_processors_in_columns() -> None:
    assert run_plainly(replace(PLAIN, object_positions=[0], objects=(b"o" * 16,)))
