"""Two hundred that wait for one lock or semaphore, while those who hold it are killed with -9 again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scaler import AsyncClient, Client, LockTimeoutError, ProcessorDiedError, ScalerFuture
from tests.integration.deployment import ROOT, Deployment, wait_for

CLIENTS = 4
VICTIMS = 5
GROUP = 40
"""Waiters that ask between two victims: 200 in all."""

IMPATIENT_SECONDS = 1.0
PATIENT_SECONDS = 120.0

HOLDING_PROGRAM = """
import sys, threading, time
from scaler import Client

client = Client(sys.argv[1])

def wait():
    with client.lock("programs", timeout=120):
        open(sys.argv[2] + ".again", "w").close()

with client.lock("programs", timeout=60):
    threads = [threading.Thread(target=wait, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    client.submit(abs, -1).result()
    open(sys.argv[2], "w").close()
    time.sleep(600)  # sleeps: until it is killed
"""


def be_killed(name: str, count: int, asks: str, holds: str) -> None:
    """Ask for it, and hold it until killed. Say both with the process id."""
    for path in (asks, holds):
        if path == holds:
            lock = Client().semaphore(name, count, timeout=PATIENT_SECONDS)
            lock.__enter__()
        Path(path + ".new").write_text(str(os.getpid()))
        os.rename(path + ".new", path)
    while True:
        time.sleep(60)  # sleeps: until it is killed


class Turns:
    """Who has it, as those see it who get it."""

    def __init__(self, count: int, folder: Path) -> None:
        self.count = count
        self.folder = folder
        self.inside = 0
        self.most = 0
        self.got: list[int] = []
        self.killed: list[int] = []
        """Victims that were killed while they held it, in order."""

    def holding_victims(self) -> list[int]:
        """Victims that say that they hold it, and were not killed."""
        said = [int(path.name.removeprefix("holds-")) for path in self.folder.glob("holds-*") if path.suffix != ".new"]
        return sorted(set(said) - set(self.killed))

    async def wait(self, client: AsyncClient, name: str, number: int) -> None:
        """Wait for it, have it for a moment, and note when."""
        async with client.semaphore(name, self.count, timeout=PATIENT_SECONDS):
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.got.append(number)
            assert self.inside + len(self.holding_victims()) <= self.count
            await asyncio.sleep(0.002)  # sleeps: others would come in meanwhile, if they could
            self.inside -= 1

    def kill_holder(self) -> bool:
        """Kill a victim that holds it, if there is one."""
        for victim in self.holding_victims():
            pid = int((self.folder / f"holds-{victim}").read_text())
            # From here on the scheduler may give it to the next one.
            self.killed.append(victim)
            os.kill(pid, signal.SIGKILL)
            return True
        return False


async def impatient(client: AsyncClient, name: str, count: int) -> float:
    """Wait for it in vain, and return for how long."""
    began = time.monotonic()
    with pytest.raises(LockTimeoutError):
        async with client.semaphore(name, count, timeout=IMPATIENT_SECONDS):
            pass
    return time.monotonic() - began


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [1, 3])
def test_each_of_two_hundred_gets_it_once_whoever_is_killed(deployment: Deployment, tmp_path: Path, count: int) -> None:
    scheduler = deployment.scheduler()
    for _ in range(2):
        deployment.workers(scheduler, count=4)
    folder = tmp_path / "victims"
    folder.mkdir()
    turns = Turns(count, folder)
    name = f"of {count}"
    submitting = deployment.client(scheduler)

    def submit(label: str) -> ScalerFuture:
        asks, holds = str(folder / f"asks-{label}"), str(folder / f"holds-{label}")
        future = submitting.submit_verbose(be_killed, (name, count, asks, holds), idempotent=False)
        wait_for("the victim to ask", (folder / f"asks-{label}").exists)
        return future

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(AsyncClient(scheduler.address)) for _ in range(CLIENTS)]
            await crowd(clients)

    async def crowd(clients: list[AsyncClient]) -> None:
        loop = asyncio.get_running_loop()
        # As many as may hold it do so, so that nobody gets it while the others come.
        victims = [await loop.run_in_executor(None, submit, str(victim)) for victim in range(count)]
        await loop.run_in_executor(None, wait_for, "all to be held", lambda: len(turns.holding_victims()) == count)
        waiters: list[asyncio.Task[None]] = []
        for group in range(VICTIMS):
            client = clients[group % CLIENTS]
            for _ in range(GROUP):
                waiters.append(asyncio.create_task(turns.wait(client, name, len(waiters))))
            # They ask in the loop's next turn. What the client says after that is answered after it, so the scheduler
            # knows them all by then.
            await asyncio.sleep(0)
            assert await client.submit(abs, -group) == group
            if group >= count:
                victims.append(await loop.run_in_executor(None, submit, str(group)))
        # Those who leave the queue, in time or killed, keep nobody back.
        waited = await asyncio.gather(*(impatient(client, name, count) for client in clients for _ in range(5)))
        assert max(waited) < IMPATIENT_SECONDS + 10
        killed_waiting = await loop.run_in_executor(None, submit, "never")
        os.kill(int((folder / "asks-never").read_text()), signal.SIGKILL)
        assert turns.got == []
        done = asyncio.gather(*waiters)
        # The last victim comes after all others, and has to be killed too.
        while not (done.done() and all(victim.done() for victim in victims)):
            turns.kill_holder()
            await asyncio.sleep(0.005)  # sleeps: between two looks, while this loop serves the clients
            if done.done():
                await done
        for victim in [*victims, killed_waiting]:
            error = await loop.run_in_executor(None, victim.exception, 60)
            assert isinstance(error, ProcessorDiedError)
        # It is free, and as many may have it as before.
        locks = [clients[0].semaphore(name, count, timeout=30) for _ in range(count)]
        for lock in locks:
            await lock.__aenter__()
        for lock in locks:
            await lock.__aexit__(None, None, None)

    asyncio.run(run())
    assert sorted(turns.got) == list(range(VICTIMS * GROUP)), "each got it once"
    if count == 1:
        assert turns.got == list(range(VICTIMS * GROUP)), "in the order in which they have asked"
    assert turns.most <= count
    assert sorted(turns.killed) == list(range(VICTIMS))
    assert not (folder / "holds-never").exists()


@pytest.mark.timeout(200)
def test_a_killed_program_gives_back_all_that_it_held_and_waited_for(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--client-timeout-seconds", "10")
    deployment.workers(scheduler)
    held = tmp_path / "held"
    text = [sys.executable, "-c", HOLDING_PROGRAM, scheduler.address, str(held)]
    program = subprocess.Popen(text, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for("the program to hold it", held.exists)
        client = deployment.client(scheduler)
        got: list[int] = []

        def wait(number: int) -> None:
            with client.lock("programs", timeout=PATIENT_SECONDS):
                got.append(number)

        with ThreadPoolExecutor(50) as threads:
            waits = [threads.submit(wait, number) for number in range(50)]
            assert client.submit(abs, -1).result(30) == 1
            assert got == []
            program.kill()
            killed_at = time.monotonic()
            for one in waits:
                one.result(PATIENT_SECONDS)
        assert sorted(got) == list(range(50))
        assert time.monotonic() - killed_at < 40, "ten seconds of silence, and some for a busy machine"
        assert not held.with_name("held.again").exists()
    finally:
        program.kill()
        program.wait()
