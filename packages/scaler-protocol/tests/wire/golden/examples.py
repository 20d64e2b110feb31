"""One example of every message kind, as it lies beside this file in bytes.

The files are the wire protocol, pinned: an implementation in another language is right when it reads and writes them.
A file holds the frames of one message: a U32 count, then for each frame a U32 length and its bytes, little-endian.
The first frame is the envelope.

    python packages/scaler-protocol/tests/wire/golden/examples.py

writes the files anew. A change to an existing file is a change of protocol: raise `PROTOCOL_VERSION` with it.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Any

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import SEQUENCED, Envelope, encode_envelope

FOLDER = Path(__file__).parent

ENVELOPE = Envelope(sequence=3, acknowledged=2, flags=SEQUENCED, epoch=1)

CLIENT = bytes(range(16))
OBJECT = bytes(range(16, 32))
FUNCTION = bytes(range(32, 48))
OTHER_FUNCTION = bytes(range(48, 64))
SCHEDULER = bytes(range(64, 80))
AGENT = bytes(range(80, 96))

CALLS: dict[str, Any] = {
    "processors": 4,
    "samples": 399,
    "cost_microseconds": 4_100,
    "parents": array("I", [0, 1, 2]),
    "names": array("I", [0, 1, 3]),
    "files": array("I", [3, 2, 2]),
    "lines": array("I", [0, 7, 9]),
    "microseconds": array("Q", [0, 30_000, 3_960_000]),
}
"""A tree of calls and what it is made of, of a worker agent and of a whole profile."""

EXAMPLES: dict[str, m.Message] = {
    "hello-client": m.Hello(
        role=m.Role.CLIENT,
        name="notebook",
        incarnation=CLIENT,
        hostname="laptop",
        pid=4321,
        stream_output=True,
        timeout_seconds=60.0,
        protocol_version=1,
        python_version="3.11",
        software_version="0.1.0",
        hello_number=1,
        group="pricing",
        user="ada",
    ),
    "hello-to-object-storage": m.Hello(
        role=m.Role.CLIENT,
        name="notebook",
        incarnation=CLIENT,
        protocol_version=1,
        python_version="3.11",
        software_version="0.1.0",
        hello_number=2,
        to_object_storage=True,
    ),
    "hello-client-inside-a-task": m.Hello(
        role=m.Role.CLIENT,
        name="nested",
        incarnation=OBJECT,
        protocol_version=1,
        python_version="3.11",
        software_version="0.1.0",
        hello_number=1,
        parent=CLIENT,
    ),
    "hello-agent": m.Hello(
        role=m.Role.AGENT,
        name="node-7",
        incarnation=CLIENT,
        hostname="node-7.example",
        pid=77,
        scheduler_incarnation=SCHEDULER,
        worker_names=("node-7-0", "node-7-1"),
        capabilities=(("gpu", 2), ("linux", -1)),
        capacity=4,
        queue_limit=1000,
        protocol_version=1,
        python_version="3.11",
        software_version="0.1.0",
        hello_number=9,
        takes_chains=True,
        term=65_536,
        resources="cores=8,gpu=2,mem=64GiB",
        devices=("GPU-a", "GPU-b"),
        memory_bytes=1 << 36,
        processor_limit_bytes=1 << 33,
    ),
    "welcome": m.Welcome(
        incarnation=SCHEDULER,
        resumed=True,
        object_storage_address="tcp://127.0.0.1:2346",
        monitor_address="tcp://127.0.0.1:2347",
        heartbeat_seconds=2.0,
        timeout_seconds=60.0,
        protected=True,
        task_credit=1000,
        protocol_version=1,
        software_version="0.1.0",
        capability_policy=True,
        hello_number=9,
        segment_offer=bytes(range(8)),
        dashboard_url="http://127.0.0.1:50001",
        term=65_536,
    ),
    "welcome-local-cluster": m.Welcome(
        incarnation=SCHEDULER, protocol_version=1, software_version="0.1.0", ends_cluster=True
    ),
    "welcome-of-object-storage": m.Welcome(
        incarnation=SCHEDULER, protocol_version=1, software_version="0.1.0", takes_homes=True
    ),
    "refused": m.Refused("Python 3.10 is not 3.11, which this cluster runs"),
    "unknown-peer": m.UnknownPeer(),
    "heartbeat": m.Heartbeat(
        sent_at_seconds=12.5,
        echo_seconds=11.25,
        capacity=8,
        cpu_percent=12.5,
        rss_bytes=1 << 30,
        rss_free_bytes=1 << 33,
        queued=3,
        latency_seconds=0.001,
        processor_pids=array("I", [100, 101]),
        processor_cpu_percents=array("H", [1000, 5]),
        processor_rss_bytes=array("Q", [1 << 28, 1 << 34]),
        processor_states=array("B", [m.ProcessorState.RUNNING, m.ProcessorState.IDLE]),
        processor_tasks=array("Q", [7, 0]),
        processor_milliseconds=array("I", [1500, 0]),
        processor_functions=(FUNCTION, bytes(16)),
        processor_environments=b"plugins: database; modules: pricing\n",
    ),
    "goodbye": m.Goodbye("the program ended"),
    "task-batch": m.TaskBatch(
        client=CLIENT,
        numbers=array("Q", [1, 2, 3]),
        functions=(FUNCTION, OTHER_FUNCTION),
        payloads=Packed.of([b"first", b"", b"third"]),
        attempts=array("H", [1, 2, 1]),
        function_indexes=array("H", [0, 1, 0]),
        depth=2,
        kind=m.TaskKind.MAP_CHUNK,
        flags=m.TaskFlag.PROFILE | m.TaskFlag.REANNOUNCED,
        serializer=FUNCTION,
        object_positions=array("I", [0, 0, 2]),
        objects=(OBJECT, CLIENT, OBJECT),
        object_sizes=array("Q", [1 << 20, 0, 1 << 33]),
        input_positions=array("I", [1, 1]),
        inputs=Packed.of([b"left", b"right"]),
        granted="gpu=1,mem=8GiB",
        devices="GPU-a",
    ),
    "task-batch-with-options": m.TaskBatch(
        client=CLIENT,
        numbers=array("Q", [1, 2]),
        functions=(FUNCTION,),
        payloads=Packed.of([b"first", b"second"]),
        options=b'{"records":[{"label":"pricing","retries":{"times":2,"on":["builtins.OSError"],"wait_seconds":0.5,"backoff":2.0,'
        b'"wait_max_seconds":60.0},"timeout_seconds":30.0,"deadline_seconds":3600.0},{"tags":{"desk":"rates"},"priority":-1,'
        b'"idempotent":false}],"rows":[1,0]}',
    ),
    "task-batch-of-chains": m.TaskBatch(
        client=CLIENT,
        numbers=array("Q", [1, 2, 3, 9]),
        functions=(FUNCTION,),
        payloads=Packed.of([b"head", b"link", b"link", b"alone"]),
        attempts=array("H", [1, 1, 1, 4]),
        input_positions=array("I", [1, 2, 2]),
        inputs=Packed.of([b"", b"", b"done"]),
        input_sources=array("I", [1, 2, 0]),
        chain_ends=array("I", [3, 4]),
    ),
    "task-batch-smallest": m.TaskBatch(CLIENT, array("Q", [0]), (FUNCTION,), Packed.of([b"x"])),
    "task-batch-with-capabilities": m.TaskBatch(
        CLIENT, array("Q", [7, 8]), (FUNCTION,), Packed.of([b"x", b"y"]), capabilities=(("gpu", -1), ("mem", 16))
    ),
    "result-batch": m.ResultBatch(
        client=CLIENT,
        numbers=array("Q", [1, 2, 1 << 60]),
        attempts=array("H", [1, 2, 1]),
        payloads=Packed.of([b"one", b"two", b""]),
        statuses=array("B", [m.Status.SUCCESS, m.Status.FAILED, m.Status.SUCCESS]),
        object_bytes=array("Q", [0, 0, 1 << 33]),
        durations=array("I", [150, 2_000_000, 1]),
        read_times=array("I", [0, 1_500, 0]),
        write_times=array("I", [0, 0, 2_500]),
        cpu_times=array("I", [140, 1_000_000, 1]),
        memory_peaks=array("Q", [1 << 20, 1 << 33, 0]),
        object_positions=array("I", [2]),
        objects=(OBJECT,),
        capacity=16,
        slots=array("H", [0, 1, 0]),
    ),
    "result-batch-smallest": m.ResultBatch(CLIENT, array("Q", [0]), array("H", [1]), Packed.of([b"x"])),
    "function-define": m.FunctionDefine(
        CLIENT,
        (FUNCTION, OTHER_FUNCTION),
        Packed.of([b"pickle", b"another"]),
        ("square", "module.cube"),
        OTHER_FUNCTION,
    ),
    "task-cancel": m.TaskCancel(CLIENT, array("Q", [4, 5]), array("H", [1, 1]), waiting_only=True),
    "task-recall": m.TaskRecall(12),
    "task-return": m.TaskReturn(CLIENT, array("Q", [6]), array("H", [3])),
    "inventory": m.Inventory(
        CLIENT, array("Q", [1, 2]), array("H", [1, 2]), array("B", [m.HeldState.QUEUED, m.HeldState.RUNNING])
    ),
    "grants-held": m.GrantsHeld(
        (CLIENT, CLIENT),
        array("Q", [1, 2]),
        array("H", [1, 3]),
        array("H", [0, 1]),
        ("gpu=0.5", "licence=1"),
        ("GPU-a", ""),
        array("B", [0, 1]),
    ),
    "grants-freed": m.GrantsFreed(CLIENT),
    "graph-submit": m.GraphSubmit(
        client=CLIENT,
        first_number=100,
        functions=(FUNCTION, OTHER_FUNCTION),
        payloads=Packed.of([b"a", b"b", b"sum"]),
        dependency_counts=array("I", [0, 0, 3]),
        dependencies=array("I", [0, 1, 3]),
        wanted=array("I", [2]),
        function_indexes=array("H", [0, 0, 1]),
        capabilities=(("linux", -1),),
        serializer=FUNCTION,
        flags=m.TaskFlag.STREAM_OUTPUT,
        depth=1,
        object_positions=array("I", [1]),
        objects=(OBJECT,),
        object_sizes=array("Q", [1 << 33]),
        earlier=array("Q", [99]),
    ),
    "graph-portion": m.GraphSubmit(
        client=CLIENT,
        first_number=100,
        functions=(FUNCTION,),
        payloads=Packed.of([b"sum"]),
        dependency_counts=array("I", [2]),
        dependencies=array("I", [0, 1]),
        wanted=array("I", [0]),
        first_row=2,
        row_count=5,
        options=b'{"records":[{"label":"pricing"}]}',
    ),
    "client-gone": m.ClientGone(CLIENT),
    "credit-request": m.CreditRequest(5000),
    "credit-grant": m.CreditGrant(100),
    "worker-list-request": m.WorkerListRequest(),
    "job-request": m.JobRequest(7, "open", "overnight", 604800.0),
    "job-reply": m.JobReply(7, "there is no job 'overnight'", "unknown", "[]"),
    "worker-list": m.WorkerList((AGENT, AGENT), array("H", [0, 1]), ("host-1", "host-2")),
    "lock-request": m.LockRequest(7, "prices", 3, held=True),
    "lock-release": m.LockRelease(7),
    "lock-answer": m.LockAnswer(7, 3, "1 may hold it, say those who use it now; this one says 3"),
    "task-progress": m.TaskProgress(CLIENT, 5, 12.5, 200.0, "epoch 2"),
    "cancel-request": m.CancelRequest(3, CLIENT, array("Q", [8, 9]), "price", "night"),
    "cancel-reply": m.CancelReply(3, 2, "this scheduler is protected"),
    "shutdown": m.Shutdown("asked for by notebook"),
    "notice": m.Notice("2 tasks need 'gpu', which no worker has", 1, array("Q", [8, 9]), "unservable"),
    "output": m.Output(CLIENT, 5, 1, "grüße\n".encode(), 17),
    "chunk-failures": m.ChunkFailures(CLIENT, 5, 2, 3, b"failure"),
    "relay": m.Relay(CLIENT, [encode_envelope(ENVELOPE), b"header", b"payload"]),
    "object-put": m.ObjectPut(1, OBJECT, CLIENT, [b"header", b"", b"body"], "matrix"),
    "object-put-place": m.ObjectPut(1, OBJECT, CLIENT, [], "matrix", bytes(range(24))),
    "object-put-incomplete": m.ObjectPut(0, OBJECT, CLIENT, [], incomplete=True, filled=8192),
    "object-put-reply": m.ObjectPutReply(1, m.ObjectStatus.STORAGE_FULL, "object storage is full"),
    "object-get": m.ObjectGet(2, OBJECT, 2.5, True),
    "object-get-follows-homes": m.ObjectGet(2, OBJECT, 2.5, follows_homes=True),
    "object-get-piece": m.ObjectGet(2, OBJECT, 2.5, size=4096, offset=8192),
    "object-get-keeps": m.ObjectGet(2, OBJECT, pieces=True, keeps_at="tcp://10.0.0.9:2350"),
    "object-layout": m.ObjectLayout(2, OBJECT, CLIENT, array("Q", [40, 2**28])),
    "object-data": m.ObjectData(2, OBJECT, [b"header", b"body"]),
    "object-data-place": m.ObjectData(2, OBJECT, place=bytes(range(24))),
    "object-data-missing": m.ObjectData(2, OBJECT, missing=True),
    "object-data-may-come": m.ObjectData(2, OBJECT, missing=True, may_come=True),
    "object-data-gone": m.ObjectData(2, OBJECT, missing=True, gone=True),
    "object-delete": m.ObjectDelete(3, CLIENT, (OBJECT, FUNCTION)),
    "object-delete-reply": m.ObjectDeleteReply(3, m.ObjectStatus.NOT_YOURS, "another client's"),
    "objects-held": m.ObjectsHeld(4, CLIENT, (OBJECT, FUNCTION), "tcp://10.0.0.7:2350"),
    "objects-held-copies": m.ObjectsHeld(4, CLIENT, (OBJECT,), "tcp://10.0.0.7:2350", are_copies=True),
    "object-homes": m.ObjectHomes(2, OBJECT, ("tcp://10.0.0.7:2350", "tcp://10.0.0.8:2350")),
    "object-wanted": m.ObjectWanted(OBJECT),
    "objects-gone": m.ObjectsGone((OBJECT, FUNCTION)),
    "clients-known": m.ClientsKnown((CLIENT, FUNCTION), everybody=True),
    "objects-lost": m.ObjectsLost("host-7", (OBJECT, FUNCTION)),
    "object-batch-of-puts": m.ObjectBatch(
        m.BatchKind.PUTS, array("Q", [1, 2]), (OBJECT, FUNCTION), CLIENT, (bytes(range(24)), bytes(range(1, 25)))
    ),
    "object-batch-of-gets": m.ObjectBatch(
        m.BatchKind.GETS,
        array("Q", [3, 4]),
        (OBJECT, FUNCTION),
        wait_seconds=2.5,
        mappable=True,
        follows_homes=True,
        pieces=True,
    ),
    "object-batch-of-data": m.ObjectBatch(
        m.BatchKind.DATA, array("Q", [3, 4]), (OBJECT, FUNCTION), places=(bytes(range(24)), bytes(range(1, 25)))
    ),
    "object-batch-of-small-data": m.ObjectBatch(
        m.BatchKind.DATA,
        array("Q", [3, 4]),
        (OBJECT, FUNCTION),
        buffer_counts=array("I", [2, 1]),
        contents=Packed.of([b"header", b"bytes", b"alone"]),
    ),
    "object-batch-of-replies": m.ObjectBatch(m.BatchKind.PUT_REPLIES, array("Q", [1, 2])),
    "monitor-snapshot": m.MonitorSnapshot(
        sequence=41,
        time_seconds=1_700_000_000.5,
        incarnation=SCHEDULER,
        cpu_percent=7.5,
        rss_bytes=50_000_000,
        task_states=(m.Counter("running", 2), m.Counter("success", 1 << 40)),
        sent=(m.Counter("TaskBatch", 5),),
        received=(m.Counter("ResultBatch", 4),),
        workers=(
            m.WorkerStatus(
                name="node-7-0",
                agent="node-7",
                hostname="node-7.example",
                pid=100,
                state=m.ProcessorState.RUNNING,
                agent_cpu_percent=1.5,
                agent_rss_bytes=30_000_000,
                cpu_percent=99.5,
                rss_bytes=60_000_000,
                rss_free_bytes=1 << 33,
                free=3,
                sent=2,
                queued=1,
                capabilities="gpu=2,linux",
                latency_seconds=0.0005,
                last_seen_seconds=0.25,
                task=9,
                function="square",
                task_seconds=1.5,
                environment="plugins: database; modules: pricing",
            ),
            m.WorkerStatus("node-7-1", "node-7"),
        ),
        clients=(
            m.ClientStatus(
                name="notebook",
                incarnation=CLIENT,
                hostname="laptop",
                pid=4321,
                waiting=10,
                running=2,
                finished=300,
                failed=1,
                last_seen_seconds=0.5,
                nested=True,
                parent=OBJECT,
                parent_name="pricing",
                group="pricing",
                graphs=1,
                object_count=2,
                object_bytes=1 << 20,
                connected_seconds=100.5,
                failed_items=4,
                user="ada",
                used_seconds=81.5,
                busy_workers=2,
                waiting_for_tasks=7,
            ),
        ),
        functions=(m.Counter("square", 12),),
        object_count=3,
        object_bytes=1 << 32,
        object_limit_bytes=1 << 34,
        agents=(
            m.AgentStatus(
                name="node-7",
                hostname="node-7.example",
                pid=77,
                workers=2,
                capacity=8,
                assigned=3,
                queued=1,
                cpu_percent=1.5,
                rss_bytes=30_000_000,
                rss_free_bytes=1 << 33,
                latency_seconds=0.0005,
                last_seen_seconds=0.25,
                draining=True,
                capabilities="gpu=2,linux",
                functions=(m.Counter("square", 3),),
                incarnation=CLIENT,
                resources="cores=8,gpu=2",
                resources_used="gpu=0.5",
                devices=("GPU-a", "GPU-b"),
                software_version="0.1.0",
                python_version="3.11",
                memory_bytes=1 << 36,
                processor_limit_bytes=1 << 33,
            ),
        ),
        graphs=(
            m.GraphStatus(
                client=CLIENT,
                first_number=100,
                rows=10,
                waiting=4,
                released=3,
                done=2,
                failed=1,
                held_results=2,
                began_seconds=1000.5,
                ended_seconds=1001.5,
            ),
        ),
        resource_waits=(m.ResourceWait("licence=1", 12, True), m.ResourceWait("mem=64GiB", 3)),
        ended_graphs=(m.GraphStatus(CLIENT, 50, 2, done=2, began_seconds=900.5, ended_seconds=901.25),),
        objects=(
            m.StoredObjectStatus(OBJECT, CLIENT, "quotes", 2000, 12.5, "shared memory", tasks=7, homes=("node-7",)),
        ),
        adapters=(
            m.AdapterStatus(
                url="http://127.0.0.1:8080",
                state="ok",
                groups=1,
                groups_max=-1,
                workers_per_group=4,
                requested_groups=2,
                starting_groups=1,
                capabilities="gpu",
                text="429: no capacity",
            ),
        ),
        started_seconds=1_699_999_000.5,
        stale_results=2,
        scaling_strategy="vanilla",
        events_omitted=17,
        failed_functions=(m.Counter("square", 1),),
        failed_items=4,
        client_names=(m.Tally("", 1, 2, 3), m.Tally("pricing", 4, 5, 6)),
        labels=(m.Tally("curves", 7, 8, 9),),
        groups=(m.GroupStatus("pricing", 3.0, 2, 40, 8, 1234.5, 100, 1000, 3), m.GroupStatus("default")),
        standby=True,
        progress=(
            m.ProgressStatus(CLIENT, 9, 12.5, 200.0, "epoch 2", 0.25, "square", "node-7"),
            m.ProgressStatus(CLIENT, 10),
        ),
        jobs=(
            m.JobStatus(
                name="overnight",
                owner="notebook",
                client=OBJECT,
                waiting=1,
                running=2,
                done=3,
                failed=4,
                canceled=5,
                lost=6,
                size_bytes=1 << 20,
                closed=True,
                started_seconds=1_699_999_000.5,
                expires_seconds=1_700_604_800.5,
                notice="1 task needs 'gpu', which no worker has",
            ),
            m.JobStatus("small"),
        ),
        job_count=2000,
        scheduler_address="tcp://0.0.0.0:2345",
        protected=True,
        scaling_events=(m.ScalingEvent(7, 1_700_000_000.5, "refused", "http://127.0.0.1:8080", 2, "no capacity"),),
    ),
    "monitor-events": m.MonitorEvents(
        sequence=42,
        time_seconds=array("d", [1.5, 2.5]),
        clients=array("H", [0, 0]),
        client_table=(CLIENT,),
        numbers=array("Q", [1, 2]),
        states=array("B", [m.TaskEvent.ASSIGNED, m.TaskEvent.SUCCESS]),
        workers=array("H", [0, 65535]),
        worker_table=("node-7-0",),
        functions=array("H", [0, 0]),
        function_table=("square",),
        durations=array("I", [0, 150]),
        dropped=2,
        slots=array("H", [65535, 1]),
        stride=4,
        incarnation=SCHEDULER,
        capabilities=array("H", [0, 1]),
        capability_table=("", "gpu,linux"),
        notes=array("H", [0, 1]),
        label_table=("", "curves"),
        tag_table=("", "desk=rates,run=17"),
        resources=array("H", [1, 0]),
        resource_table=("", "licence=1,mem=8GiB"),
        read_times=array("I", [0, 1_500]),
        write_times=array("I", [0, 2_500]),
    ),
    "monitor-failures": m.MonitorFailures(
        incarnation=SCHEDULER,
        first_number=3,
        time_seconds=array("d", [1_700_000_000.5]),
        clients=(CLIENT,),
        numbers=array("Q", [12]),
        attempts=array("H", [3]),
        statuses=array("B", [m.Status.PROCESSOR_DIED]),
        functions=("square",),
        workers=("node-7",),
        durations=array("I", [250]),
        payloads=Packed.of([b"killed by SIGKILL"]),
        items=array("I", [2]),
        labels=("curves",),
        tags=("desk=rates",),
    ),
    "monitor-log": m.MonitorLog(
        SCHEDULER, 5, array("d", [1.5, 2.5]), array("B", [20, 30]), ("agent connected", "a client is slow")
    ),
    "monitor-graph": m.MonitorGraph(
        time_seconds=1.5,
        incarnation=SCHEDULER,
        client=CLIENT,
        first_number=100,
        row_count=7,
        states=[2, 1, 0],
        functions=[0, 1, 0],
        dependency_ends=[0, 1, 3],
        dependencies=[0, 0, 1],
        function_table=("load", "add"),
    ),
    "monitor-dump": m.MonitorDump(1.5, '{"tasks": {}}'),
    "store-status-request": m.StoreStatusRequest(6),
    "store-status": m.StoreStatus(
        6,
        3,
        4096,
        1 << 30,
        (CLIENT,),
        array("Q", [3]),
        array("Q", [3000]),
        (m.StoredObjectStatus(OBJECT, CLIENT, "quotes", 2000, 12.5, "disk", readers_waiting=1),),
    ),
    "object-list-request": m.ObjectListRequest(7, 200, m.ObjectOrder.AGE, True, CLIENT, "quotes rates"),
    "object-list": m.ObjectList(
        7, 200, 1_201, 20_000, (m.StoredObjectStatus(OBJECT, CLIENT, "quotes", 2000, 12.5, "disk", 1, 3, ("node-7",)),)
    ),
    "scheduler-status": m.SchedulerStatus(term=131_077, is_first=True, incarnation=SCHEDULER, answers=True, ends=True),
    "drain": m.Drain(),
    "output-request": m.OutputRequest(9, 17, CLIENT),
    "output-reply": m.OutputReply(9, b'{"parts": []}'),
    "monitor-output": m.MonitorOutput(
        1.5, 17, CLIENT, ("node-7",), Packed.of([b'{"parts": []}']), asked=3, silent=("node-8",), omitted=1
    ),
    "profile-request": m.ProfileRequest(10.5, 100, 2000),
    "profile-samples": m.ProfileSamples(
        **CALLS,
        texts=(FUNCTION.hex(), "square", "squares.py", ""),
    ),
    "monitor-profile": m.MonitorProfile(
        token=77,
        rate=100,
        seconds=10,
        elapsed_seconds=1.5,
        done=True,
        agents=2,
        answered=1,
        **CALLS,
        texts=("square", "square", "squares.py", ""),
    ),
}


def read_frames(name: str) -> list[bytes]:
    """Return the frames in the golden file of an example."""
    raw = (FOLDER / f"{name}.bin").read_bytes()
    (count,) = struct.unpack_from("<I", raw)
    frames, at = [], 4
    for _ in range(count):
        (length,) = struct.unpack_from("<I", raw, at)
        frames.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    assert at == len(raw), name
    return frames


def write_frames(name: str) -> None:
    """Write the golden file of an example."""
    frames = [encode_envelope(ENVELOPE), *(bytes(frame) for frame in encode(EXAMPLES[name]))]
    parts = [struct.pack("<I", len(frames)), *(struct.pack("<I", len(frame)) + frame for frame in frames)]
    (FOLDER / f"{name}.bin").write_bytes(b"".join(parts))


if __name__ == "__main__":
    for example in EXAMPLES:
        write_frames(example)
