"""Everybody who runs tasks makes the same of the same bytes: see `scaler_protocol.testing.payload_vectors`."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cloudpickle
import pytest

from scaler.serialization.results import load_outcomes, load_value
from scaler_adapters.symphony import task_runner
from scaler_adapters.symphony.sources import compressed_sources
from scaler_adapters.symphony.task_runner import RemoteResult, RemoteTask
from scaler_protocol.failures import load_exception
from scaler_protocol.payloads.execution import Execution, TaskPayloads
from scaler_protocol.payloads.framing import Failure
from scaler_protocol.payloads.plain import load_plain_failure
from scaler_protocol.payloads.values import ObjectUnavailableError
from scaler_protocol.testing.fake_scheduler import FakeScheduler
from scaler_protocol.testing.payload_vectors import REVERSED, VECTORS, Raised, Vector
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.messages import Status, TaskKind

pytestmark = pytest.mark.without_keys("its schedulers are stand-ins without keys")


class Answer(NamedTuple):
    """What became of a vector: status, payload, and the object that the payload names."""

    status: int
    payload: bytes
    buffers: Sequence[bytes] = ()


def run_on_worker(vectors: Sequence[Vector]) -> list[Answer]:
    """Run tasks by the real command: agent, template and processor."""
    scheduler = FakeScheduler(storage=True)
    command = [sys.executable, "-m", "scaler_worker", scheduler.address, "-n", "1"]
    agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        scheduler.wait_until(lambda: scheduler.hello)
        numbers: list[int] = []
        for vector in vectors:
            scheduler.objects.update((object_id, list(buffers)) for object_id, buffers in vector.objects.items())
            numbers += scheduler.submit_body(
                vector.function,
                [vector.arguments],
                kind=TaskKind.MAP_CHUNK if vector.is_chunk else TaskKind.CALL,
                input_positions=[0] * len(vector.inputs),
                inputs=Packed.of(vector.inputs),
                serializer=scheduler.define_body(vector.serializer) if vector.serializer else b"",
            )
        outcomes = scheduler.wait_for_results(numbers, 30)
        stored = [payload[1:] for _, payload in outcomes if payload[:1] == b"O"]
        scheduler.wait_until(lambda: all(object_id in scheduler.objects for object_id in stored))
        return [Answer(*outcome, scheduler.objects.get(outcome[1][1:], ())) for outcome in outcomes]
    finally:
        agent.terminate()
        agent.wait()
        scheduler.close()


def run_in_process(vectors: Sequence[Vector]) -> list[Answer]:
    """Run tasks by what `InProcessCluster` runs them by."""
    objects = {object_id: buffers for vector in vectors for object_id, buffers in vector.objects.items()}

    def fetch(object_id: bytes) -> list[memoryview]:
        if object_id not in objects:
            raise ObjectUnavailableError(Status.MISSING_OBJECT, f"object {object_id.hex()} is not in storage")
        return [memoryview(bytearray(buffer)) for buffer in objects[object_id]]

    execution = Execution(fetch)
    answers = []
    for vector in vectors:
        task = TaskPayloads(vector.function, vector.arguments, vector.inputs, vector.serializer, vector.is_chunk)
        status, outcome = execution.run(task)
        answers.append(Answer(status, outcome.payload, [bytes(buffer) for buffer in outcome.buffers]))
    return answers


SERVICE = """
import pickle, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scaler", "scaler_protocol", "scaler_adapters"):
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
calls = pickle.loads(sys.stdin.buffer.read())
answers = [function(*arguments) for function, *arguments in calls]
sys.stdout.buffer.write(pickle.dumps(answers))
"""


def run_in_symphony(vectors: Sequence[Vector]) -> list[Answer]:
    """Run tasks in a service process that has nothing of ours, by the runner that travels there."""
    modules = compressed_sources("scaler_protocol.payloads.execution")
    calls = []
    for vector in vectors:
        task = RemoteTask(
            vector.function,
            vector.arguments,
            vector.inputs,
            vector.serializer,
            vector.objects,
            vector.is_chunk,
            number=1,
            depth=0,
            scheduler_address="",
            object_storage_address="",
        )
        calls.append((task_runner.run_task_with, modules, *task))
    cloudpickle.register_pickle_by_value(task_runner)
    try:
        sent = cloudpickle.dumps(calls)
    finally:
        cloudpickle.unregister_pickle_by_value(task_runner)
    done = subprocess.run([sys.executable, "-c", SERVICE], input=sent, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    results = [RemoteResult(*fields) for fields in pickle.loads(done.stdout)]
    return [Answer(result.status, result.payload, result.buffers) for result in results]


ROADS = {"worker": run_on_worker, "in process": run_in_process, "symphony": run_in_symphony}


def vectors_of(road: str) -> dict[str, Vector]:
    """Return the vectors that a road is to pass: an agent looks for an object that nobody has for ten seconds."""
    return {name: vector for name, vector in VECTORS.items() if road != "worker" or not vector.lacks_object}


@pytest.fixture(scope="module")
def answers() -> Callable[[str], dict[str, Answer]]:
    """All answers of a road, by the names of the vectors. It runs them all when it is first asked."""

    @functools.cache
    def answers_of(road: str) -> dict[str, Answer]:
        vectors = vectors_of(road)
        return dict(zip(vectors, ROADS[road](list(vectors.values())), strict=True))

    return answers_of


def check_failure(payload: bytes | Sequence[bytes], wanted: Raised) -> None:
    if payload[:1] == b"J":
        assert isinstance(payload, bytes)
        failure = Failure(b"", *load_plain_failure(payload))
    else:
        failure = Failure(*load_value(payload))
    assert failure.type_name == wanted.type_name
    if failure.type_name == "DeserializeObjectError":
        assert "of the task could not be restored on" in failure.text
        # A worker says where it looks for modules as well.
        assert wanted.text in failure.text
    else:
        assert failure.text.startswith(wanted.text)
    assert (not failure.pickled) == (wanted.by_name or payload[:1] == b"J")
    if failure.pickled:
        error = load_exception(failure.pickled)
        assert functions_of(error) == list(wanted.functions)
    for function in wanted.functions:
        assert f"in {function}\n" in failure.traceback_text


def functions_of(error: BaseException) -> list[str]:
    """Return the functions of an exception's traceback, outermost first."""
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize(("road", "name"), [(road, name) for road in ROADS for name in vectors_of(road)])
def test_a_vector(road: str, name: str, answers: Callable[[str], dict[str, Answer]]) -> None:
    vector, answer = VECTORS[name], answers(road)[name]
    if vector.raised is not None:
        assert answer.status == Status.FAILED, answer
    else:
        assert answer.status == vector.status, answer
    if vector.payload:
        assert answer.payload[:1] == vector.payload if vector.payload == b"O" else answer.payload == vector.payload
    assert (answer.payload[:1] == b"O") == bool(answer.buffers)
    if vector.buffers:
        assert tuple(map(bytes, answer.buffers)) == vector.buffers
    payload = list(answer.buffers) or answer.payload
    serializer = REVERSED if vector.serializer else None
    if vector.raised is not None:
        check_failure(payload, vector.raised)
    elif vector.status != Status.SUCCESS:
        assert answer.payload.startswith(b"object ")
    elif vector.is_chunk:
        values, failures = load_outcomes(payload, serializer)
        assert (values, set(failures)) == (vector.value, set(vector.failures))
        for index, wanted in vector.failures.items():
            check_failure(failures[index], wanted)
    elif not name.startswith("plain: ") or answer.payload[:1] == b"P":
        value = load_value(payload, serializer)
        assert (type(value), value) == (type(vector.value), vector.value)
