"""Groups of tasks, which any thread may ask for while the engine's thread goes through them."""

from __future__ import annotations

from scaler.core.tasks import TaskTable
from scaler_protocol.wire.call_options import CallOptions, encode_record


def test_a_thread_may_make_a_group_while_another_one_looks_at_all() -> None:
    table = TaskTable(b"client")

    class Numbers(list[int]):
        """Another thread runs while these are looked at."""

        def __len__(self) -> int:
            table.group(options=encode_record(CallOptions(priority=len(table.groups()))))
            return super().__len__()

    table.group().pending.numbers = Numbers()
    groups = len(table.groups())
    assert table.waiting_count() == 0
    assert table.next_batch() is None
    table.clear()
    assert len(table.groups()) > groups
