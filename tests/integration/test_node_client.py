"""The client for Node, `clients/node`: its own tests, and what happens when processes around it die.

It is built in a temporary folder, by npm from its lock file. Without node or npm, or where npm reaches no registry, all of this
is skipped.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.testing.security_directory import make_security_directory
from scaler_protocol.version import PROTOCOL_VERSION, SOFTWARE_VERSION
from scripts.write_node_layout import LAYOUT, layout_text
from tests.integration.deployment import ROOT, Deployment
from tests.integration.test_object_life import Stored

SOURCE = ROOT / "clients/node"
FUNCTIONS = "tests.integration.functions"
NO_NETWORK = re.compile(r"ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENETUNREACH")

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.without_keys("programs give it their keys themselves: one test here does"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the built client."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    try:
        installed = npm(folder, "ci")
        if installed.returncode and NO_NETWORK.search(installed.stderr):
            pytest.skip("npm reaches no registry")
        assert installed.returncode == 0, installed.stderr
        compiled = npm(folder, "run", "build")
        assert compiled.returncode == 0, compiled.stdout
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def npm(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npm", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "SCALER_REPOSITORY": str(ROOT), **environment},
    )


class Driver:
    """`test/driver.ts`, a program that does with clients what it is told."""

    def __init__(self, built: Path) -> None:
        self._process = subprocess.Popen(
            ["node", "dist/test/driver.js"], cwd=built, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ids = itertools.count()
        self._answers: dict[int, queue.Queue[Any]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            number, answer = json.loads(line)
            self._answers[number].put(answer)

    def start(self, *words: Any) -> queue.Queue[Any]:
        """Have it begin something; its answer comes into the queue."""
        number = next(self._ids)
        answer = self._answers[number] = queue.Queue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, *words]) + "\n")
        self._process.stdin.flush()
        return answer

    def do(self, *words: Any, timeout: float = 40) -> Any:
        return self.start(*words).get(timeout=timeout)

    def close(self) -> int:
        """Let it end by itself: nothing may keep it alive once its clients are closed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(5)


@pytest.fixture
def driver(built: Path) -> Iterator[Driver]:
    driver = Driver(built)
    try:
        yield driver
    finally:
        driver.close()


def test_the_layout_is_that_of_the_schema() -> None:
    assert LAYOUT.read_text(encoding="utf-8") == layout_text()


def test_versions_are_those_of_the_packages() -> None:
    wire = (SOURCE / "src/wire.ts").read_text(encoding="utf-8")
    assert f"PROTOCOL_VERSION = {PROTOCOL_VERSION};" in wire
    assert f'SOFTWARE_VERSION = "{SOFTWARE_VERSION}";' in wire
    assert json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))["version"] == SOFTWARE_VERSION


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]


def test_its_own_tests(built: Path, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--per-worker-capabilities", "linux")
    done = npm(built, "test", SCALER_ADDRESS=scheduler.address)
    assert done.returncode == 0, done.stdout
    assert "# skipped 0" in done.stdout, done.stdout


def test_its_format_and_what_a_linter_finds(built: Path) -> None:
    done = npm(built, "run", "lint")
    assert done.returncode == 0, done.stdout + done.stderr


CLIENT_BEFORE_BLOCKS = "declare const client: Client;\n"
BEFORE_BLOCKS = f"""
{CLIENT_BEFORE_BLOCKS}declare const order: Record<string, unknown>, orders: Record<string, unknown>[];
declare const address: string;
declare const publicKey: string, secretKey: string, serverKey: string;
"""
"""What the README's blocks leave to the reader."""


def documented_blocks() -> list[str]:
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```ts\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_blocks_of_its_readme_have_the_right_types(built: Path) -> None:
    imported = 'import { Client } from "@scaler/client";\n'
    folder = built / "readme"
    folder.mkdir()
    for number, block in enumerate(documented_blocks()):
        text = block if imported in block else imported + block
        declared = BEFORE_BLOCKS if "const client =" not in block else BEFORE_BLOCKS.replace(CLIENT_BEFORE_BLOCKS, "")
        (folder / f"block{number}.ts").write_text(text + declared, encoding="utf-8")
    # Blocks show values that they do not use.
    compiler = {"rootDir": "..", "noEmit": True, "noUnusedLocals": False}
    settings = {"extends": "../tsconfig.json", "compilerOptions": compiler, "include": ["."]}
    (folder / "tsconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    checked = subprocess.run(
        ["npx", "tsc", "-p", "readme"], cwd=built, capture_output=True, text=True, timeout=100, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_the_first_block_of_its_readme_runs(built: Path, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    block = documented_blocks()[0]
    for there, here in (
        ("tcp://127.0.0.1:2345", scheduler.address),
        # The reader's own function and value.
        ("pricing.models:value", "builtins:dict"),
        ("[order]", "[{ id: 17 }]"),
        ("<number>", ""),
    ):
        assert there in block
        block = block.replace(there, here)
    (built / "block.mjs").write_text(block + "console.log(JSON.stringify([sum, value, roots]));\n", encoding="utf-8")
    done = subprocess.run(["node", "block.mjs"], cwd=built, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [5, {"id": 17, "day": "2026-01-31"}, [1, 2, 3]]


def test_its_examples(built: Path, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    command = ["node", "dist/examples/pricing.js", scheduler.address]
    done = subprocess.run(command, cwd=built, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "2 + 3 = 5"
    assert "ZeroDivisionError" in done.stdout


def test_large_values_are_freed(driver: Driver, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    stored = Stored(str(scheduler.addresses["object_storage"]))
    driver.do("connect", "a", scheduler.address, {})
    text = "x" * 400_000
    driver.do("submit", "a", "answered", "builtins:str.upper", [text])
    assert driver.do("wait", "answered") == {"value": text.upper()}
    stored.wait_for(0, 10)
    for task, words, error in (
        ("cancelled", ("cancel", "cancelled"), "CancelledError"),
        ("left", ("close", "a"), "ClientClosedError"),
    ):
        driver.do("submit", "a", task, f"{FUNCTIONS}:sleep_and_return", [100, text])
        stored.wait_for(1, 10)
        driver.do(*words)
        assert driver.do("wait", task)["error"] == error
        stored.wait_for(0, 10)


def test_a_worker_that_is_killed(driver: Driver, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    first = deployment.workers(scheduler)
    driver.do("connect", "a", scheduler.address, {})
    for number in range(4):
        driver.do("submit", "a", f"task {number}", f"{FUNCTIONS}:sleep_and_return", [0.3, number])
    driver.do("submit", "a", "quick", "operator:add", [1, 1])
    first.kill()
    deployment.workers(scheduler)
    assert [driver.do("wait", f"task {number}") for number in range(4)] == [{"value": number} for number in range(4)]
    driver.do("close", "a")
    assert driver.close() == 0


def test_a_scheduler_that_is_killed_and_started_again(driver: Driver, deployment: Deployment) -> None:
    address = f"tcp://127.0.0.1:{free_ports(3)[0]}"
    scheduler = deployment.scheduler(address=address)
    deployment.workers(scheduler)
    driver.do("connect", "a", address, {})
    for number in range(6):
        driver.do("submit", "a", f"task {number}", f"{FUNCTIONS}:sleep_and_return", [0.4, number])
    scheduler.kill()
    # This one leaves after the scheduler is gone; so does the end of a running one.
    driver.do("submit", "a", "later", "operator:add", [2, 2])
    deployment.scheduler(address=address)
    assert [driver.do("wait", f"task {number}") for number in range(6)] == [{"value": number} for number in range(6)]
    assert driver.do("wait", "later") == {"value": 4}
    driver.do("close", "a")
    assert driver.close() == 0


def test_tasks_as_arguments_while_the_scheduler_is_started_again(driver: Driver, deployment: Deployment) -> None:
    address = f"tcp://127.0.0.1:{free_ports(3)[0]}"
    scheduler = deployment.scheduler(address=address)
    deployment.workers(scheduler)
    stored = Stored(str(scheduler.addresses["object_storage"]))
    driver.do("connect", "a", address, {})
    driver.do("submit", "a", "early", "operator:add", [1, 0])
    assert driver.do("wait", "early") == {"value": 1}
    driver.do("submit", "a", "slow", f"{FUNCTIONS}:sleep_and_return", [2, 10])
    driver.do("submit", "a", "sum", "operator:add", [{"task": "slow"}, {"task": "early"}])
    driver.do("submit", "a", "sum of sums", "operator:add", [{"task": "sum"}, {"task": "sum"}])
    driver.do("submit", "a", "large", "operator:mul", ["x", 400_000])
    driver.do("submit", "a", "length", "builtins:len", [{"task": "large"}])
    assert driver.do("wait", "length") == {"value": 400_000}
    stored.wait_for(0, 10)
    scheduler.kill()
    driver.do("submit", "a", "later", "operator:add", [{"task": "sum of sums"}, {"task": "slow"}])
    deployment.scheduler(address=address)
    assert driver.do("wait", "sum") == {"value": 11}
    assert driver.do("wait", "later") == {"value": 32}
    driver.do("close", "a")
    assert driver.close() == 0


def test_what_tasks_print_goes_to_the_streams_of_the_program(built: Path, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    program = f"""
        import {{ Client }} from "@scaler/client";
        const client = await Client.connect("{scheduler.address}", {{ streamOutput: true }});
        await client.submit("builtins:print", ["printed"]);
        await client.submit("logging:error", ["logged"]);
        await client.close();
    """
    (built / "output.mjs").write_text(program, encoding="utf-8")
    done = subprocess.run(["node", "output.mjs"], cwd=built, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "printed\n"), done.stderr
    assert "ERROR:root:logged" in done.stderr.splitlines()


def test_a_scheduler_that_does_not_come_back(driver: Driver, deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler)
    driver.do("connect", "a", scheduler.address, {"timeoutSeconds": 1.5})
    for number in range(5):
        driver.do("submit", "a", f"task {number}", "time:sleep", [100])
    scheduler.kill()
    answers = [driver.do("wait", f"task {number}", timeout=15) for number in range(5)]
    assert {answer["error"] for answer in answers} == {"DisconnectedError"}
    assert "no answer from the scheduler" in answers[0]["text"]
    assert driver.do("submit", "a", "late", "operator:add", [1, 1])["error"] == "DisconnectedError"
    driver.do("close", "a")
    assert driver.close() == 0
    workers.kill()


def test_a_cluster_that_ends(driver: Driver, deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--ends-cluster")
    workers = deployment.workers(scheduler)
    driver.do("connect", "a", scheduler.address, {})
    driver.do("submit", "a", "task", "time:sleep", [100])
    scheduler.kill()
    answer = driver.do("wait", "task", timeout=15)
    assert answer["error"] == "DisconnectedError"
    assert "has ended" in answer["text"]
    driver.do("close", "a")
    workers.kill()


def test_a_client_that_is_killed_leaves_free_workers(built: Path, driver: Driver, deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--client-timeout-seconds", "3")
    deployment.workers(scheduler, count=1)
    other = Driver(built)
    try:
        other.do("connect", "a", scheduler.address, {})
        other.do("submit", "a", "long", "time:sleep", [100])
    finally:
        other._process.kill()
        other.close()
    driver.do("connect", "b", scheduler.address, {})
    driver.do("submit", "b", "short", "operator:add", [1, 2])
    assert driver.do("wait", "short") == {"value": 3}
    driver.do("close", "b")


def test_as_many_tasks_as_the_scheduler_permits(driver: Driver, deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--max-number-of-tasks-waiting", "5")
    deployment.workers(scheduler)
    driver.do("connect", "a", scheduler.address, {})
    for number in range(300):
        driver.start("submit", "a", f"task {number}", "operator:neg", [number])
    assert [driver.do("wait", f"task {number}") for number in range(300)] == [
        {"value": -number} for number in range(300)
    ]
    driver.do("close", "a")


def test_a_cluster_with_keys(driver: Driver, deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys))
    own = tomllib.loads((keys / "client.key").read_text(encoding="utf-8"))
    server = re.findall(r"[^\s\"']{40}", (keys / "server.pub").read_text(encoding="utf-8"))[-1]
    given = {"publicKey": own["public"], "secretKey": own["secret"], "serverKey": server}
    driver.do("connect", "a", scheduler.address, {"keys": given})
    driver.do("submit", "a", "small", "operator:add", [1, 2])
    driver.do("submit", "a", "large", "builtins:len", ["x" * 400_000])
    assert driver.do("wait", "small") == {"value": 3}
    assert driver.do("wait", "large") == {"value": 400_000}
    assert driver.do("connect", "b", scheduler.address, {"timeoutSeconds": 2})["error"] == "DisconnectedError"
    driver.do("close", "a")


def test_a_program_in_python_names_functions_too(deployment: Deployment) -> None:
    import scaler

    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.submit(scaler.by_name("operator:add"), 2, 3).result() == 5
    assert list(client.map(scaler.by_name(f"{FUNCTIONS}:square"), [1, 2, 3])) == [1, 4, 9]
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        client.submit(scaler.by_name("no_such_module:f")).result()
    with pytest.raises(AttributeError, match="has no 'nothing'"):
        client.submit(scaler.by_name("operator:nothing")).result()
    with pytest.raises(TypeError, match="is no function"):
        client.submit(scaler.by_name("math:pi")).result()
    with pytest.raises(ValueError, match=r"write 'package\.module:function'"):
        scaler.by_name("operator.add")
