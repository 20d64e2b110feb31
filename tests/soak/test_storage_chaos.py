"""Object storage with a small memory and a disk below it, under load: killed at random moments, full, no space on the disk.

Objects that come back have the right bytes, those that do not are named, no future is silent. `nox -s chaos` runs short forms.
The long ones: `SCALER_CHAOS_KILLS=50`; `SCALER_CHAOS_MEMORY_MIB=1024 SCALER_CHAOS_OBJECTS_MIB=8192 SCALER_CHAOS_DISK_MIB=2048`.
`SCALER_CHAOS_SEED` repeats the choices of an earlier run.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaler import Client, ScalerFuture
from scaler.client.object_reference import ObjectReference
from scaler.errors import ObjectStorageException
from scaler_protocol.objects.storage.requests import PUT_WINDOW_BYTES
from tests.integration.deployment import Deployment, Service, traces, wait_for

MIB = 1024**2
SEED = int(os.environ.get("SCALER_CHAOS_SEED", str(time.time_ns() % 100_000)))
KILLS = int(os.environ.get("SCALER_CHAOS_KILLS", "6"))
MEMORY_MIB = int(os.environ.get("SCALER_CHAOS_MEMORY_MIB", "64"))
OBJECTS_MIB = int(os.environ.get("SCALER_CHAOS_OBJECTS_MIB", "384"))
DISK_MIB = int(os.environ.get("SCALER_CHAOS_DISK_MIB", "128"))
OBJECT_MIB = 4
END_S = 120.0
"""Every future has ended so long after the last kill."""

PATIENCE_S = 5.0
"""The client's timeout, where storage is to refuse something."""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def value_of(number: int, size: int) -> Any:
    """Numbers that no other value has, and each place another one."""
    return np.arange(size // 8, dtype=np.int64) + (number << 32)


def is_right(value: Any, number: int, size: int) -> bool:
    return bool(np.array_equal(value, value_of(number, size)))


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    print(f"\nseed {SEED}")
    before = traces()
    deployment = Deployment(tmp_path)
    try:
        yield deployment
    finally:
        deployment.close()
    wait_for("nothing left behind", lambda: not traces().beyond(before), 20)


def start_storage(
    deployment: Deployment, folder: Path, *flags: str, memory_mib: int = MEMORY_MIB, **settings: Any
) -> Service:
    return deployment.storage("-ml", f"{memory_mib}MiB", "-sp", str(folder), *flags, **settings)


def start_rest(deployment: Deployment, storage: Service, **settings: Any) -> Client:
    scheduler = deployment.scheduler("-osa", storage.address)
    deployment.workers(scheduler, count=2)
    return deployment.client(scheduler, **settings)


def bytes_in(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return found


# --- kill -9


class Load:
    """Large arguments, large results and objects that are sent by themselves, of random sizes."""

    def __init__(self, client: Client, dice: random.Random) -> None:
        self._client = client
        self._dice = dice
        self._numbers = 0
        self.futures: list[tuple[str, int, int, ScalerFuture]] = []
        self.references: list[tuple[int, int, ObjectReference]] = []

    def submit(self, count: int) -> None:
        for _ in range(count):
            way = self._dice.choice(("argument", "result", "reference", "old reference"))
            number, size = self._next()
            if way == "argument":
                future = self._client.submit(is_right, value_of(number, size), number, size)
            elif way == "result":
                future = self._client.submit(value_of, number, size)
            else:
                if way == "reference" or not self.references:
                    self.references.append((number, size, self._client.send_object(value_of(number, size))))
                number, size, reference = self._dice.choice(self.references)
                future = self._client.submit(is_right, reference, number, size)
            self.futures.append((way, number, size, future))

    def read_references(self) -> None:
        """Use all that is still referred to."""
        for number, size, reference in self.references:
            self.futures.append(("last look", number, size, self._client.submit(is_right, reference, number, size)))

    def outcomes(self) -> Counter[str]:
        """Wait for all, and count how they ended. Wrong values, silence, and errors that name nothing fail the test."""
        _, silent = wait([future for *_, future in self.futures], timeout=END_S)
        assert not silent, f"{len(silent)} of {len(self.futures)} futures are silent"
        outcomes: Counter[str] = Counter()
        for way, number, size, future in self.futures:
            error = future.exception()
            if error is None:
                value = future.result()
                assert value is True or is_right(value, number, size), f"{way} {number} has wrong bytes"
                outcomes["right"] += 1
            else:
                assert isinstance(error, ObjectStorageException), (way, error)
                assert re.search(r"[0-9a-f]{8}", str(error)), f"no object is named: {error}"
                outcomes[type(error).__name__] += 1
        return outcomes

    def _next(self) -> tuple[int, int]:
        self._numbers += 1
        return self._numbers, self._dice.randrange(300_000, 3_000_000) // 8 * 8


def test_kill_9_of_storage_at_random_moments(deployment: Deployment, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    folder = tmp_path / "objects"
    # So little memory that some objects are always below it.
    memory_mib = MEMORY_MIB // 4
    storage = start_storage(deployment, folder, memory_mib=memory_mib)
    client = start_rest(deployment, storage)
    load = Load(client, dice)
    restored = 0
    for kill in range(KILLS):
        load.submit(dice.randint(20, 60))
        if kill == KILLS - 1:
            wait_for("records on the disk", lambda: [one for one in folder.glob("objects/*/*") if not one.suffix], 60)
        time.sleep(dice.uniform(0.0, 2.0))  # sleeps: the kill comes at some moment
        storage.kill()
        time.sleep(dice.uniform(0.0, 1.0))  # sleeps: how long there is no storage
        storage = start_storage(deployment, folder, memory_mib=memory_mib, address=storage.address)
        found = re.search(r"(\d+) objects of earlier processes are there again", storage.log())
        restored += int(found[1]) if found else 0
    load.read_references()
    outcomes = load.outcomes()
    print(f"{KILLS} kills, {len(load.futures)} tasks: {dict(outcomes)}; {restored} objects were there again")
    assert restored
    # Only what was in memory alone may be lost, and what its client still has is sent again.
    assert outcomes["right"] >= len(load.futures) // 2, outcomes
    load.references.clear()
    assert client.submit(is_right, value_of(0, MIB), 0, MIB).result(60)


# --- more objects than memory, and than disk


def send_all(
    client: Client, total_mib: int, refused_max: int = 3
) -> tuple[list[tuple[int, ObjectReference]], list[str]]:
    """Send so much, or until so many were refused. Returns what was sent, and what was said of what was not."""
    held: list[tuple[int, ObjectReference]] = []
    refusals: list[str] = []
    for number in range(total_mib // OBJECT_MIB):
        try:
            held.append((number, client.send_object(value_of(number, OBJECT_MIB * MIB))))
        except ObjectStorageException as error:
            refusals.append(str(error))
            if len(refusals) == refused_max:
                break
    return held, refusals


def ends(
    client: Client, held: list[tuple[int, ObjectReference]]
) -> tuple[list[tuple[int, ObjectReference]], list[str]]:
    """Read all of it in tasks. Returns what was right, and the errors. Wrong bytes and silence fail the test."""
    futures = [client.submit(is_right, reference, number, OBJECT_MIB * MIB) for number, reference in held]
    _, silent = wait(futures, timeout=END_S + len(held))
    assert not silent, f"{len(silent)} of {len(futures)} futures are silent"
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        assert isinstance(error, ObjectStorageException), error
    right = [one for one, future in zip(held, futures, strict=True) if future.exception() is None]
    assert all(future.result() for future in futures if future.exception() is None), "wrong bytes"
    return right, [str(error) for error in errors]


def test_objects_several_times_the_memory(deployment: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    client = start_rest(deployment, start_storage(deployment, folder))
    began = time.monotonic()
    held, refusals = send_all(client, OBJECTS_MIB)
    assert not refusals
    right, errors = ends(client, held)
    seconds = time.monotonic() - began
    assert (len(right), errors) == (OBJECTS_MIB // OBJECT_MIB, [])
    assert bytes_in(folder) >= (OBJECTS_MIB - MEMORY_MIB) * MIB
    print(f"{OBJECTS_MIB} MiB through {MEMORY_MIB} MiB of memory: {seconds:.1f} s, {OBJECTS_MIB / seconds:.0f} MiB/s")
    held.clear()
    right.clear()
    wait_for("the files are gone", lambda: not bytes_in(folder / "objects"), 30)


def test_objects_beyond_memory_and_disk_are_refused_and_none_is_lost(deployment: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    storage = start_storage(deployment, folder, "-dl", f"{DISK_MIB}MiB")
    client = start_rest(deployment, storage, timeout_seconds=PATIENCE_S)
    held, refusals = send_all(client, MEMORY_MIB + 2 * DISK_MIB)
    right, errors = ends(client, held)
    assert refusals
    for text in (*refusals, *errors):
        assert "--memory-limit-bytes" in text, text
        assert "--disk-limit-bytes" in text, text
    # Those that were on their way when the first one was refused have found no room either. All before them are there.
    assert right == held[: len(right)]
    assert (len(held) - len(right)) * OBJECT_MIB * MIB <= PUT_WINDOW_BYTES, errors
    assert len(right) * OBJECT_MIB >= (MEMORY_MIB + DISK_MIB) * 0.8
    assert bytes_in(folder) <= DISK_MIB * MIB
    print(f"{len(right)} objects of {OBJECT_MIB} MiB are there, {len(refusals) + len(errors)} refused: {refusals[-1]}")
    # What is freed is room for others.
    held = right[len(right) // 2 :]
    del right
    wait_for("room", lambda: not send_all(client, OBJECT_MIB, 1)[1], 60)
    assert len(ends(client, held)[0]) == len(held)


# --- no space on the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of `DISK_MIB` of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_no_space_in_the_middle(small_disk: Path, deployment: Deployment) -> None:
    storage = start_storage(deployment, small_disk / "objects")
    client = start_rest(deployment, storage, timeout_seconds=PATIENCE_S)
    held, refusals = send_all(client, MEMORY_MIB)
    assert not refusals
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(DISK_MIB * MIB))
    more, refusals = send_all(client, MEMORY_MIB + DISK_MIB)
    right, errors = ends(client, [*held, *more])
    assert refusals
    assert "No space left on device" in refusals[-1]
    assert all("object storage is full" in text for text in errors), errors
    assert right[: len(held)] == held
    assert (len(more) + len(held) - len(right)) * OBJECT_MIB * MIB <= PUT_WINDOW_BYTES, errors
    assert "the storage below memory fails" in storage.log()
    ballast.unlink()
    wait_for("room", lambda: not send_all(client, OBJECT_MIB, 1)[1], 60)
    again, _ = send_all(client, 2 * OBJECT_MIB)
    assert ends(client, [*right, *again])[0] == [*right, *again]
    storage.wait_log("the storage below memory works again")
    print(f"{len(right)} objects of {OBJECT_MIB} MiB were there all the time, {len(refusals)} refused: {refusals[-1]}")
