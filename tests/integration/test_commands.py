"""What every documented flag of the scheduler, cluster and object storage commands does, through real processes.

Each flag has one form here. That its short form and its older names mean the same is held by the tests of the settings.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scaler import Client
from scaler.errors import ScalerError, TaskTimeoutError
from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, is_gone, segments_of, wait_for

BIN = Path(sys.executable).parent


def has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


def snapshot(monitor_address: str, wanted: str = "") -> m.MonitorSnapshot:
    """The next snapshot a scheduler publishes."""
    subscriber = Subscriber(monitor_address)
    try:
        for _ in range(100):
            frames = subscriber.receive(1.0)
            if frames is None:
                continue
            message = decode(frames[1:])
            if isinstance(message, m.MonitorSnapshot):
                return message
    finally:
        subscriber.close()
    raise AssertionError("no snapshot was published")


def works(deployment: Deployment, scheduler: Service) -> None:
    client = deployment.client(scheduler)
    assert client.submit(f.square, 6).result(timeout=30) == 36


# --- all commands


@pytest.mark.parametrize(
    "command", ["scaler_scheduler", "scaler_cluster", "scaler_object_storage_server", "scaler_top", "scaler_ui"]
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_flags(command: str, flag: str) -> None:
    done = subprocess.run([BIN / command, flag], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert "--config" in done.stdout


@pytest.mark.parametrize(
    ("command", "arguments", "word"),
    [
        ("scaler_scheduler", ["tcp://127.0.0.1:0", "--nonsense"], "nonsense"),
        ("scaler_scheduler", ["tcp://127.0.0.1:0", "--client-timeout-seconds", "soon"], "client-timeout-seconds"),
        ("scaler_scheduler", ["nowhere"], "nowhere"),
        ("scaler_cluster", ["tcp://127.0.0.1:1", "-n", "0"], "num-of-workers"),
        ("scaler_object_storage_server", [], "ADDRESS"),
    ],
)
def test_mistakes_are_one_clear_line_and_status_2(command: str, arguments: list[str], word: str) -> None:
    done = subprocess.run([BIN / command, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert word.lower() in lines[0].lower()


def test_a_port_that_is_taken_is_one_clear_line(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    done = subprocess.run([BIN / "scaler_scheduler", scheduler.address], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert scheduler.address in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["scaler_scheduler", "scaler_worker", "scaler_objstore"])
def test_flags_are_read_before_anything_large_is_imported(package: str) -> None:
    program = (
        f"import sys, {package}.main; assert {package}.main.main(['nowhere']) == 2; "
        "print(*sorted({'capnp', 'cloudpickle', 'zmq'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=30).strip() == ""


def test_workers_start_their_template_before_anything_is_imported_that_reads_flags() -> None:
    program = "import sys, scaler_worker.main; print(*sorted({'asyncio', 'pydantic'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=30).strip() == ""


@pytest.mark.parametrize(
    "module",
    [
        "scaler_scheduler",
        "scaler_worker",
        "scaler_objstore",
        "scaler_adapters",
        *(f"scaler_adapters.{name}" for name in ("ecs", "native", "slurm", "symphony")),
        *(f"scaler_ui.{name}" for name in ("top", "web", "dump", "trace")),
    ],
)
def test_ctrl_c_while_libraries_are_imported_ends_a_command_without_a_word(module: str, tmp_path: Path) -> None:
    # A library that takes its time, for it is large.
    (tmp_path / "pydantic.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    command = subprocess.Popen(
        [sys.executable, "-m", module, "tcp://127.0.0.1:1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "importing\n"
    command.send_signal(signal.SIGINT)
    assert command.communicate(timeout=30) == ("", "")
    assert command.returncode == -signal.SIGINT


# --- scaler_scheduler


def test_default_ports_follow_the_scheduler_s(deployment: Deployment) -> None:
    port = free_ports(3)[0]
    scheduler = deployment.scheduler(address=f"tcp://127.0.0.1:{port}")
    assert scheduler.addresses["scheduler"].port == port
    assert scheduler.addresses["object_storage"].port == port + 1
    assert scheduler.addresses["monitor"].port == port + 2
    deployment.workers(scheduler, count=1)
    works(deployment, scheduler)


def test_an_object_storage_server_of_one_s_own_is_used(deployment: Deployment) -> None:
    storage = deployment.storage()
    scheduler = deployment.scheduler("--object-storage-address", storage.address)
    assert str(scheduler.addresses["object_storage"]) == storage.address
    assert not scheduler.children()
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    blob = os.urandom(500_000)
    assert client.submit(lambda x: x, blob).result(timeout=30) == blob


def test_monitors_connect_to_the_monitor_address(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--monitor-address", "tcp://127.0.0.1:0")
    deployment.workers(scheduler, "-wn", "one,two")
    works(deployment, scheduler)
    shown = snapshot(str(scheduler.addresses["monitor"]))
    assert {worker.name for worker in shown.workers} == {"one", "two"}


def test_protected(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--protected")
    client = deployment.client(scheduler)
    with pytest.raises(ValueError, match="protected"):
        client.shutdown()
    assert scheduler.child.is_running


@pytest.mark.parametrize(
    ("flags", "goes_to_gpu"),
    [
        (("--allocate-policy", "capability"), True),
        (("--allocate-policy", "EVEN"), False),
        ((), True),
    ],
    ids=["capability", "even", "default"],
)
def test_allocate_policy(
    deployment: Deployment, flags: tuple[str, ...], goes_to_gpu: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = deployment.scheduler(*flags)
    deployment.workers(scheduler, "-pwc", "gpu,linux", count=1)
    plain = deployment.workers(scheduler, "-pwc", "linux", count=1)
    client = deployment.client(scheduler)
    wait_for("both hosts work", lambda: len(set(client.map(f.parent_process_id, range(50)))) >= 1)
    futures = [client.submit_verbose(f.sleep_and_return, (0.02,), capabilities={"gpu": -1}) for _ in range(20)]
    pids = [client.submit_verbose(f.process_id, capabilities={"gpu": -1}) for _ in range(20)]
    on_plain = {pid.result(timeout=30) for pid in pids} & set(plain.children())
    for future in futures:
        future.result(timeout=30)
    told = [record.getMessage() for record in caplog.records if "ignores them" in record.getMessage()]
    if goes_to_gpu:
        assert not on_plain
        assert not told
    else:
        # Once, however many tasks ask.
        assert len(told) == 1
        assert "--allocate-policy even" in told[0]


def test_max_number_of_tasks_waiting_holds_clients_back(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--max-number-of-tasks-waiting", "5")
    deployment.workers(scheduler, "-wtqs", "1", count=1)
    client = deployment.client(scheduler)
    started = time.monotonic()
    futures = [client.submit(f.sleep_and_return, 0.05, number) for number in range(40)]
    submitting = time.monotonic() - started
    assert [future.result(timeout=30) for future in futures] == list(range(40))
    # 40 tasks of 50 ms on one worker take two seconds; without the limit `submit` would not wait for them.
    assert submitting > 1.0


def test_a_client_that_falls_silent_is_given_up(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--client-timeout-seconds", "2")
    deployment.workers(scheduler, count=1)
    mark = tmp_path / "started"
    program = (
        "import sys\nfrom scaler import Client\nfrom tests.integration import functions as f\n"
        "client = Client(sys.argv[1])\nfuture = client.submit(f.mark_and_sleep, sys.argv[2], 600)\nfuture.result()\n"
    )
    silent = subprocess.Popen([sys.executable, "-c", program, scheduler.address, str(mark)])
    try:
        wait_for("its task runs", mark.exists)
        silent.send_signal(signal.SIGSTOP)
        # Its task is stopped, so the one worker is free for others.
        works(deployment, scheduler)
    finally:
        silent.kill()
        silent.wait()


def test_a_worker_host_that_falls_silent_is_given_up(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--worker-timeout-seconds", "2")
    first = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    mark, go = tmp_path / "started", tmp_path / "go"
    future = client.submit(f.mark_and_wait, str(mark), str(go))
    wait_for("it runs", mark.exists)
    for pid in (first.pid, *first.children()):
        os.kill(pid, signal.SIGSTOP)
    try:
        deployment.workers(scheduler, count=1)
        wait_for("it runs again elsewhere", lambda: len(mark.read_text().splitlines()) == 2)
        go.touch()
        assert future.result(timeout=30) == int(mark.read_text().splitlines()[1])
    finally:
        for pid in (first.pid, *first.children()):
            os.kill(pid, signal.SIGCONT)


def test_objects_of_a_lost_client_go_after_the_retention_time(deployment: Deployment) -> None:
    storage = deployment.storage()
    empty = segments_of(storage.pid)
    scheduler = deployment.scheduler("-osa", storage.address, "-ct", "1", "--object-retention-seconds", "1")
    program = (
        "import os, sys, time\nfrom scaler import Client\nclient = Client(sys.argv[1])\n"
        "reference = client.send_object(os.urandom(50_000_000))\nprint('sent', flush=True)\ntime.sleep(600)\n"
    )
    lost = subprocess.Popen([sys.executable, "-c", program, scheduler.address], stdout=subprocess.PIPE, text=True)
    try:
        assert lost.stdout is not None
        assert lost.stdout.readline() == "sent\n"
        wait_for("the object is stored", lambda: segments_of(storage.pid) > empty)
    finally:
        lost.kill()
        lost.wait()
        if lost.stdout is not None:
            lost.stdout.close()
    wait_for("its memory is free", lambda: segments_of(storage.pid) == empty)


@pytest.mark.parametrize(
    "flags",
    [("--load-balance-seconds", "0.2", "-lbt", "1")],
    ids=["0.2 s"],
)
def test_load_balancing_moves_tasks_that_have_not_started(
    deployment: Deployment, flags: tuple[str, ...], tmp_path: Path
) -> None:
    scheduler = deployment.scheduler(*flags)
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    client.map(f.square, range(10))
    marks = [tmp_path / str(number) for number in range(16)]
    go_on = tmp_path / "go on"
    # All are the first host's, and it does not get beyond the first of them.
    futures = [client.submit(f.mark_and_wait, str(mark), str(go_on)) for mark in marks]
    wait_for("the first host begins", lambda: any(mark.exists() for mark in marks))
    second = deployment.workers(scheduler, count=1)

    def begun_by() -> set[int]:
        return {int(pid) for mark in marks if mark.exists() for pid in mark.read_text().split()}

    wait_for("the second host begins one", lambda: begun_by() & set(second.children()))
    go_on.touch()
    for future in futures:
        future.result(timeout=30)
    # One line each: nothing ran twice.
    assert [len(mark.read_text().splitlines()) for mark in marks] == [1] * 16


def test_max_task_attempts(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "1")
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    with pytest.raises(ScalerError, match="1 of 1"):
        client.submit(f.die_once, str(tmp_path / "mark")).result(timeout=30)


@pytest.mark.parametrize(
    "loop", ["builtin", pytest.param("uvloop", marks=pytest.mark.skipif(not has_uvloop(), reason="needs uvloop"))]
)
def test_event_loop(deployment: Deployment, loop: str) -> None:
    scheduler = deployment.scheduler("--event-loop", loop)
    deployment.workers(scheduler, "--event-loop", loop, count=1)
    works(deployment, scheduler)
    scheduler.wait_log(loop)


def test_io_threads(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--io-threads", "2")
    deployment.workers(scheduler, "--io-threads", "2", count=1)
    works(deployment, scheduler)


def test_logging_paths_are_created_with_their_folders(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "folder" / "scheduler.log"
    scheduler = deployment.scheduler("-lp", "/dev/stdout", str(path), "-ll", "DEBUG")
    wait_for("the file", lambda: path.exists() and scheduler.address in path.read_text())
    scheduler.wait_log(scheduler.address)


def test_logging_level(deployment: Deployment) -> None:
    quiet = deployment.scheduler("--logging-level", "error")
    deployment.workers(quiet, "-ll", "ERROR", count=1)
    works(deployment, quiet)
    assert "INFO" not in quiet.log()


def test_logging_as_json(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--logging-format", "json")
    lines = scheduler.log().splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_logging_config_file(deployment: Deployment, tmp_path: Path) -> None:
    log_path = tmp_path / "own.log"
    config = tmp_path / "logging.ini"
    config.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=plain\n"
        "[logger_root]\nlevel=INFO\nhandlers=file\n"
        f"[handler_file]\nclass=FileHandler\nformatter=plain\nargs=('{log_path}',)\n"
        "[formatter_plain]\nformat=own %(message)s\n"
    )
    deployment.scheduler("-lcf", str(config))
    wait_for("the log", lambda: log_path.exists() and "own " in log_path.read_text())


# --- scaler_cluster


def test_number_of_workers(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.start("scaler_worker", scheduler.address, "--num-of-workers", "3")
    works(deployment, scheduler)
    assert len(snapshot(str(scheduler.addresses["monitor"])).workers) == 3


def test_the_default_number_of_workers_is_that_of_cpus_and_logged(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.start("scaler_worker", scheduler.address)
    works(deployment, scheduler)
    count = os.cpu_count() or 1
    assert len(snapshot(str(scheduler.addresses["monitor"])).workers) == count
    workers.wait_log(str(count))


def test_worker_names(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.start("scaler_worker", scheduler.address, "--worker-names", "alice,bob")
    works(deployment, scheduler)
    assert {w.name for w in snapshot(str(scheduler.addresses["monitor"])).workers} == {"alice", "bob"}


def test_per_worker_capabilities_are_shown(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--per-worker-capabilities", "linux,cpu=4", count=1)
    works(deployment, scheduler)
    (worker,) = snapshot(str(scheduler.addresses["monitor"])).workers
    assert "linux" in worker.capabilities
    assert "cpu=4" in worker.capabilities


def test_per_worker_task_queue_size(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--per-worker-task-queue-size", "1", count=1)
    client = deployment.client(scheduler)
    client.map(f.square, range(100))
    futures = [client.submit(time.sleep, 0.4) for _ in range(5)]
    (worker,) = snapshot(str(scheduler.addresses["monitor"])).workers
    assert worker.sent <= 1
    for future in futures:
        future.result(timeout=30)


def test_heartbeat_interval(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--heartbeat-interval-seconds", "0.1", count=1)
    works(deployment, scheduler)
    monitor = str(scheduler.addresses["monitor"])

    def heartbeats() -> int:
        return {counter.name: counter.count for counter in snapshot(monitor).received}.get("Heartbeat", 0)

    before = heartbeats()
    wait_for("many heartbeats", lambda: heartbeats() - before >= 10, 10)


def test_task_timeout_ends_a_task_that_runs_too_long(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--task-timeout-seconds", "0.5", count=1)
    client = deployment.client(scheduler)
    started = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"^task \d+ \(time\.sleep\): the task ran for more than 0\.5 s"):
        client.submit(time.sleep, 60).result(timeout=30)
    assert time.monotonic() - started < 15
    # Nothing that has to be imported first, for which a busy machine takes longer than a task may take.
    assert client.submit(abs, -3).result(timeout=30) == 3


def test_workers_give_up_when_no_scheduler_answers(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, "--death-timeout-seconds", "2", count=1)
    works(deployment, scheduler)
    children = workers.children()
    scheduler.kill()
    assert workers.wait_end(30) != 0
    wait_for("its processors are gone", lambda: all(is_gone(pid) for pid in children))


def test_memory_flags_are_obeyed_and_change_nothing_else(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-gc", "0.1", "-tm", "1", "--hard-processor-suspend", count=1)
    client = deployment.client(scheduler)

    def cycles() -> int:
        class Node:
            me: object

        for _ in range(1000):
            node = Node()
            node.me = node
        return 1

    assert sum(client.map(lambda _: cycles(), range(20))) == 20
    assert client.submit(f.fibonacci, client, 5).result(timeout=30) == 5


def test_garbage_is_collected_between_tasks(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--garbage-collect-interval-seconds", "0.1", count=1)
    client = deployment.client(scheduler)

    def leave_garbage() -> None:
        import gc

        gc.disable()
        node: list[object] = [bytearray(50_000_000)]
        node.append(node)

    def memory() -> int:
        import psutil

        return int(psutil.Process().memory_info().rss)

    before = client.submit(memory).result(timeout=30)
    client.submit(leave_garbage).result(timeout=30)
    wait_for("the garbage is gone", lambda: client.submit(memory).result(timeout=30) < before + 30_000_000)


def test_an_object_storage_address_of_the_workers_own(deployment: Deployment) -> None:
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    deployment.workers(scheduler, "--object-storage-address", storage.address, count=1)
    client = deployment.client(scheduler)
    array = np.arange(100_000)
    assert client.submit(np.sum, array).result(timeout=30) == array.sum()


def test_preload_runs_once_in_every_processor(deployment: Deployment, tmp_path: Path) -> None:
    package = tmp_path / "preloaded.py"
    package.write_text(
        "import os, pathlib\nready = None\n"
        "def load(folder, word='none'):\n    global ready\n    ready = word\n"
        "    with (pathlib.Path(folder) / str(os.getpid())).open('a') as file:\n        file.write('x')\n"
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    scheduler = deployment.scheduler()
    deployment.start(
        "scaler_worker",
        scheduler.address,
        "-n",
        "2",
        "--preload",
        f"preloaded:load('{marks}', word='loaded')",
        PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}",
    )
    client = deployment.client(scheduler)

    def look() -> tuple[int, str]:
        import preloaded  # type: ignore[import-not-found]

        time.sleep(0.05)  # sleeps: the task takes so long that both workers get some
        return os.getpid(), preloaded.ready

    seen = dict(client.map(lambda _: look(), range(20)))
    assert set(seen.values()) == {"loaded"}
    assert all((marks / str(pid)).read_text() == "x" for pid in seen)


def test_a_preload_that_fails_ends_the_command_with_its_reason(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.start(
        "scaler_worker", scheduler.address, "-n", "1", "--preload", "no_such:thing()", ready=False
    )
    assert workers.wait_end(30) != 0
    assert "no_such" in workers.log()


# --- scaler_object_storage_server


@pytest.mark.parametrize("flag", ["--memory-limit-bytes=1000000", "--object-size-limit-bytes=1000000"])
def test_what_the_object_storage_server_may_not_hold_is_refused(deployment: Deployment, flag: str) -> None:
    storage = deployment.storage(flag)
    scheduler = deployment.scheduler("-osa", storage.address)
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    with pytest.raises(ScalerError):
        client.submit(len, os.urandom(5_000_000)).result(timeout=30)
    assert client.submit(len, os.urandom(300_000)).result(timeout=30) == 300_000


def test_an_object_storage_server_is_no_scheduler(deployment: Deployment) -> None:
    storage = deployment.storage()
    workers = deployment.start("scaler_worker", storage.address, "-n", "1", "-his", "0.1", ready=False)
    with pytest.raises(ScalerError, match="this is an object storage server; the scheduler has another address"):
        Client(storage.address, heartbeat_interval_seconds=60)
    assert workers.wait_end(30) == 1
    assert "this is an object storage server; the scheduler has another address" in workers.log()


def test_the_object_storage_server_takes_the_common_flags(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "storage.log"
    storage = deployment.storage("-el", "builtin", "-wit", "2", "-ll", "DEBUG", "-lp", str(path))
    wait_for("its log", lambda: path.exists() and storage.address in path.read_text())


# --- one file for all


TOML = """
[scheduler]
object_storage_address = "tcp://127.0.0.1:{storage}"
monitor_address = "tcp://127.0.0.1:{monitor}"
allocate_policy = "even"
logging_level = "INFO"
logging_paths = ["/dev/stdout", "{folder}/log/scaler/scheduler.log"]

[cluster]
num_of_workers = 2
per_worker_capabilities = "linux,cpu=8"
task_timeout_seconds = 600

[object_storage_server]

[webui]
web_port = {web}
"""


@pytest.mark.parametrize(("scenario", "flags", "workers"), [(1, (), 2), (2, ("--num-of-workers", "3"), 3)])
def test_toml_scenarios_with_the_four_commands(
    deployment: Deployment, tmp_path: Path, scenario: int, flags: tuple[str, ...], workers: int
) -> None:
    scheduler_port, storage_port, monitor_port, web_port = free_ports(4)
    config = tmp_path / "example_config.toml"
    config.write_text(TOML.format(storage=storage_port, monitor=monitor_port, web=web_port, folder=tmp_path))
    file = ("--config", str(config))
    scheduler_address = f"tcp://127.0.0.1:{scheduler_port}"
    deployment.start("scaler_objstore", f"tcp://127.0.0.1:{storage_port}", *file)
    scheduler = deployment.start("scaler_scheduler", scheduler_address, *file)
    deployment.start("scaler_worker", scheduler_address, *file, *flags)
    web = deployment.start("scaler_ui.web", f"tcp://127.0.0.1:{monitor_port}", *file, ready=False)
    works(deployment, scheduler)
    shown = snapshot(f"tcp://127.0.0.1:{monitor_port}")
    assert len(shown.workers) == workers
    assert (tmp_path / "log" / "scaler" / "scheduler.log").read_text()

    def web_answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", web_port)) == 0

    wait_for("the web page", web_answers)
    assert web.child.is_running


def test_the_command_line_wins_over_the_file(deployment: Deployment, tmp_path: Path) -> None:
    config = tmp_path / "scaler.toml"
    config.write_text("[scheduler]\nprotected = true\n\n[cluster]\nworker_names = 'from-file'\n")
    scheduler = deployment.scheduler("-c", str(config))
    deployment.start("scaler_worker", scheduler.address, "-c", str(config), "-wn", "from-flag")
    works(deployment, scheduler)
    assert [w.name for w in snapshot(str(scheduler.addresses["monitor"])).workers] == ["from-flag"]
    with Client(scheduler.address) as client, pytest.raises(ValueError, match="protected"):
        client.shutdown()
