"""Files that jobs are kept in: whatever lies in one, what is whole is read, and what it says becomes a job or a sentence."""

from __future__ import annotations

import struct
import zlib

from scaler_protocol.ids import content_id
from scaler_scheduler.core import SchedulerConfig, SchedulerCore
from scaler_scheduler.core.jobs import journal
from scaler_scheduler.core.jobs.job import Row, RowState
from scaler_scheduler.job_journals import read_records, size_of, whole_file

BODY = b"Pbody"
FUNCTION = content_id(BODY)
MARK = b"mark8byt"
UNMARKED = b"SCALERJOB\x01"


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    header = {"name": "job", "owner": "", "owner_name": "client", "group": "", "started": 1.0, "keep": 2.0}
    rows = [Row(FUNCTION, b"P%d" % number, b"", (), 0, number) for number in range(3)]
    ended = [Row(FUNCTION, b"P0", b"", (("gpu", 1),), 0, 1)]
    ended[0].end(RowState.DONE, 0, b"O" + b"o" * 16, (b"o" * 16,))
    records = [
        journal.pack(journal.Kind.OPENED, header),
        journal.function(FUNCTION, "f", BODY),
        journal.tasks(b"c" * 16, 0, rows, 1.0),
        journal.ended([1], ended, 2.0),
        journal.again(b"c" * 16, [1], [7], rows[:1], 3.0),
        journal.pack(journal.Kind.CANCELED, {"rows": [2]}),
        journal.tasks(b"d" * 16, 5, [Row(FUNCTION, b"P9", b"", (), 1, 1, 77)], 4.0),
        journal.pack(journal.Kind.CLOSED, {}),
        journal.pack(journal.Kind.KEPT, {"keep": 3.0}),
    ]
    unmarked = UNMARKED + b"".join(struct.pack("<II", len(each), zlib.crc32(each)) + each for each in records)
    return [whole_file(records, MARK), unmarked, *records]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    records, end, damaged = read_records(data)
    assert 0 <= damaged <= len(data)
    assert end <= max(size_of([]), len(data))
    first = journal.pack(
        journal.Kind.OPENED, {"name": "j", "owner": "", "owner_name": "", "group": "", "started": 0.0, "keep": 9.0}
    )
    for some in (records, [data], [first, data]):
        core = SchedulerCore(SchedulerConfig(incarnation=b"s" * 16, keeps_jobs=True), 0.0)
        core.restore_job(b"j" * 16, some, 0.0)
        core.take_effects()
        core.check_invariants()
