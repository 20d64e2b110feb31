"""Fences around real processors: `scaler_cluster` with its flags, on this host, as root where another user is needed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.payloads.framing import OBJECT, Argument, Source, frame_arguments
from scaler_protocol.testing.fake_scheduler import CLIENT, FakeScheduler, arguments, value_of
from scaler_protocol.testing.readable_python import readable_python
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.descriptors import FIRST_NUMBER
from scaler_worker.processor.records import PACKET_BYTES_MAX, Kind
from scaler_worker.shell.arriving_records import HELD_BYTES_MAX
from scaler_worker.shell.copy_turns import COPIED_BYTES_MAX

Start = Callable[..., tuple[FakeScheduler, "subprocess.Popen[str]"]]

MIB = 1024**2

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processors as another user")


def _groups(controller: str) -> tuple[Path | None, str]:
    """Return the cgroup in which agents make those of their processors, or why there is none.

    Another process finds out, as an agent would: it tidies up, and may move itself.
    """
    program = (
        "import os; from scaler_worker.fences.control_groups import find_groups; "
        f"print(find_groups(os.getpid(), {controller!r}).prefix)"
    )
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if asked.returncode:
        return None, asked.stderr.strip().rpartition("\n")[2]
    return Path(asked.stdout.strip()).parent, ""


GROUP, NO_GROUP = _groups("memory")
with_groups = pytest.mark.skipif(GROUP is None, reason=f"no memory cgroups: {NO_GROUP}")
PROCESS_GROUP, NO_PROCESS_GROUP = _groups("pids")
with_process_groups = pytest.mark.skipif(PROCESS_GROUP is None, reason=f"no pids cgroups: {NO_PROCESS_GROUP}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a scheduler and `scaler_cluster` with flags; what it logs is in `log`. Afterwards nothing of it is left."""
    started: list[tuple[FakeScheduler, subprocess.Popen[str]]] = []

    def start_cluster(*flags: str, environment: dict[str, str] | None = None, workers: int = 1) -> Any:
        scheduler = FakeScheduler(storage=True)
        python = readable_python() if "--user" in flags else [sys.executable]
        command = [*python, "-m", "scaler_worker", scheduler.address, "-n", str(workers), *flags]
        log = (tmp_path / "log").open("w", encoding="utf-8")
        with log:
            agent = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(environment or {})}
            )
        started.append((scheduler, agent))
        scheduler.wait_until(lambda: scheduler.hello)
        return scheduler, agent

    yield start_cluster
    for scheduler, agent in started:
        agent.terminate()
        agent.wait(30)
        scheduler.close()
        assert left_by(agent.pid) == []


def left_by(pid: int) -> list[str]:
    """Return what an agent's fences have left on this host."""
    places = ("/dev/shm", tempfile.gettempdir())
    folders = [path for place in places for path in Path(place).glob(f"scaler-*-{pid}-*")]
    groups = [path for group in (GROUP, PROCESS_GROUP) if group for path in group.glob(f"scaler-{pid}-*")]
    return [str(path) for path in (*folders, *groups)]


def run(scheduler: FakeScheduler, function: Callable[..., Any], *args: Any) -> Any:
    """Run one task and return its value."""
    (value,) = scheduler.values(scheduler.submit(function, [arguments(*args)]))
    return value


def end_of(scheduler: FakeScheduler, function: Callable[..., Any], *args: Any) -> tuple[int, bytes]:
    """Run one task and return (status, payload)."""
    (outcome,) = scheduler.wait_for_results(scheduler.submit(function, [arguments(*args)]))
    return outcome


def take_memory(size: int) -> int:
    taken = bytearray(size)
    taken[::4096] = b"x" * len(taken[::4096])
    return len(taken)


def _own_number_once_there_is(path: str) -> int:
    wait_until(lambda: os.path.exists(path), 50)
    return os.getpid()


def _own_number_beside_another(folder: str) -> int:
    """Return the number of this process, once a task in another one says in `folder` that it is there, too."""
    open(f"{folder}/{os.getpid()}", "w").close()
    wait_until(lambda: len(os.listdir(folder)) == 2)
    return os.getpid()


# --- another user


@as_root
def test_tasks_run_as_the_user_and_cannot_come_back(start: Start) -> None:
    scheduler, _ = start("--user", "nobody")
    account = pwd.getpwnam("nobody")

    def who() -> tuple[Any, ...]:
        import ctypes

        failed = []
        attempts: list[tuple[Callable[[Any], None], Any]] = [(os.setuid, 0), (os.setgid, 0), (os.setgroups, [0])]
        for attempt, value in attempts:
            try:
                attempt(value)
            except PermissionError:
                failed.append(True)
        no_new_privileges = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)
        return os.getresuid(), os.getresgid(), os.getgroups(), failed, no_new_privileges, os.environ["USER"]

    uid, gid = account.pw_uid, account.pw_gid
    groups = os.getgrouplist("nobody", gid)
    assert run(scheduler, who) == ((uid,) * 3, (gid,) * 3, groups, [True] * 3, 1, "nobody")


@as_root
def test_a_task_of_the_user_reaches_nothing_of_the_agent(start: Start, tmp_path: Path) -> None:
    secrets = tmp_path / "security"
    secrets.mkdir(mode=0o700)
    (secrets / "worker.key").write_text("secret")
    scheduler, agent = start("--user", "nobody", environment={"SCALER_ADAPTER_TOKEN": "very-secret-token"})

    def look(agent: int, template: int, key: str) -> tuple[list[str], list[str], bool, bool]:
        found = []
        for pid in (agent, template):
            for name in ("environ", "mem", "maps", "fd"):
                path = f"/proc/{pid}/{name}"
                try:
                    if name == "fd":
                        os.listdir(path)
                    else:
                        Path(path).read_bytes()
                    found.append(path)
                except OSError:
                    pass
            try:
                os.kill(pid, 0)
                found.append(f"signal {pid}")
            except PermissionError:
                pass
        try:
            Path(key).read_bytes()
            found.append(key)
        except PermissionError:
            pass
        targets = []
        for name in os.listdir("/proc/self/fd"):
            # The descriptor of the listing is gone.
            with contextlib.suppress(FileNotFoundError):
                targets.append(os.readlink(f"/proc/self/fd/{name}"))
        needle = b"very-secret" + b"-token"
        in_memory = False
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
            for line in maps:
                place, rights = line.split()[:2]
                if "r" not in rights or "[v" in line:
                    continue
                first, last = (int(part, 16) for part in place.split("-"))
                memory.seek(first)
                try:
                    content = memory.read(last - first) or b""
                except OSError:
                    continue
                # The words of this function lie apart in memory.
                at = content.find(needle)
                if at >= 0 and content[max(0, at - 21) : at] == b"SCALER_ADAPTER_TOKEN=":
                    in_memory = True
        with open("/proc/self/environ", "rb") as environ:
            in_environment = needle in environ.read()
        return found, targets, in_memory, in_environment

    template = run(scheduler, os.getppid)
    found, targets, in_memory, in_environment = run(scheduler, look, agent.pid, template, str(secrets / "worker.key"))
    assert found == []
    assert (in_memory, in_environment) == (False, False)
    kinds = {target.partition(":")[0] for target in targets if not target.startswith("/")}
    assert kinds <= {"socket", "pipe", "anon_inode"}
    files = {target for target in targets if target.startswith("/")}
    allowed = {"/dev/null", str(tmp_path / "log")}
    assert {name for name in files if not name.startswith(("/memfd:scaler-", "/proc/"))} <= allowed


@as_root
def test_large_values_come_and_go_as_the_user(start: Start) -> None:
    scheduler, _ = start("--user", "nobody")
    made = end_of(scheduler, bytes, 8 * MIB)
    assert made[0] == Status.SUCCESS
    assert made[1][:1] == OBJECT
    object_id = made[1][1:17]
    stored = scheduler.objects[object_id]
    assert sum(map(len, stored)) >= 8 * MIB
    scheduler.objects[b"i" * 16] = stored
    call = frame_arguments([Argument(Source.OBJECT, b"i" * 16)], {})
    assert scheduler.values(scheduler.submit(len, [call])) == [8 * MIB]


@as_root
def test_a_task_that_spoils_the_objects_of_its_host_does_not_end_the_agent(start: Start) -> None:
    scheduler, agent = start("--user", "nobody")

    def spoil(folder: str) -> bytes:
        import threading

        def watch() -> None:
            known = set(os.listdir(folder))
            while True:
                for name in set(os.listdir(folder)) - known:
                    with contextlib.suppress(OSError):
                        # Whoever has mapped the file would be killed for reading it.
                        os.truncate(f"{folder}/{name}", 64)

        threading.Thread(target=watch, daemon=True).start()
        return bytes(8 * MIB)

    (folder,) = Path("/dev/shm").glob(f"scaler-objects-{agent.pid}-*/objects")
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o711
    assert folder.parent.stat().st_uid == 0
    pid = run(scheduler, os.getpid)
    for _ in range(5):
        end_of(scheduler, spoil, str(folder))
    assert agent.poll() is None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _is_zombie(pid))
    status, payload = end_of(scheduler, bytes, 8 * MIB)
    assert (status, payload[:1]) == (Status.SUCCESS, OBJECT)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def _send_without_end(kind: int, packet_bytes: int, descriptor: int) -> None:
    import socket

    channel = socket.socket(fileno=os.dup(descriptor))
    packet = bytes((kind, 1)).ljust(packet_bytes, b"x")
    while True:
        channel.send(packet)


@as_root
@pytest.mark.parametrize("kind", [Kind.RELAY, Kind.RESULTS])
def test_records_without_an_end_do_not_fill_the_memory_of_the_agent(start: Start, kind: Kind) -> None:
    limit = 256 * MIB
    scheduler, agent = start("--user", "nobody", "--processor-memory-limit-bytes", str(limit), workers=4)
    call = arguments(int(kind), PACKET_BYTES_MAX, FIRST_NUMBER)
    outcomes = scheduler.wait_for_results(scheduler.submit(_send_without_end, [call] * 4), 50)
    assert all(status == Status.PROCESSOR_DIED and b"MiB in one record" in text for status, text in outcomes)
    # What may have arrived of all of them, one whole record, and the agent itself.
    assert peak_bytes(agent.pid) < HELD_BYTES_MAX + limit + 128 * MIB
    assert run(scheduler, os.getuid) == pwd.getpwnam("nobody").pw_uid


@as_root
def test_a_result_that_costs_its_task_nothing_costs_the_agent_nothing(start: Start) -> None:
    scheduler, agent = start("--user", "nobody")

    def make(size: int) -> bytes:
        import struct

        from scaler_worker.processor import object_files

        def write(folder: str, object_id: bytes, *_: object) -> int:
            with open(f"{folder}/{object_id.hex()}", "wb") as sparse:
                sparse.write(struct.pack("=QQ", 1, size - 64).ljust(64, b"\0"))
                sparse.truncate(size)
            return 1

        vars(object_files)["write_object"] = write
        return bytes(MIB)

    status, text = end_of(scheduler, make, 1 << 31)
    assert status == Status.STORAGE_FAILED
    assert b"its file cannot be read: not all of it was written" in text
    assert peak_bytes(agent.pid) < 256 * MIB


@as_root
def test_copies_of_large_results_have_a_bound_together(start: Start) -> None:
    scheduler, agent = start("--user", "nobody", workers=4)
    size = 250 * MIB
    outcomes = scheduler.wait_for_results(scheduler.submit(bytes, [arguments(size)] * 4), 50)
    assert all(status == Status.SUCCESS and payload[:1] == OBJECT for status, payload in outcomes)
    assert sum(len(buffer) for stored in scheduler.objects.values() for buffer in stored) >= 4 * size
    assert peak_bytes(agent.pid) < COPIED_BYTES_MAX + 128 * MIB


@as_root
def test_a_processor_of_the_user_ends_with_its_template(start: Start) -> None:
    scheduler, _ = start("--user", "nobody")
    template, processor = run(scheduler, lambda: (os.getppid(), os.getpid()))
    os.kill(template, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{processor}/task").exists() or _is_zombie(processor))
    assert run(scheduler, os.getuid) == pwd.getpwnam("nobody").pw_uid


@as_root
def test_an_agent_ends_when_another_user_has_the_place_of_its_folder(start: Start, tmp_path: Path) -> None:
    scheduler, agent = start("--user", "nobody")
    account = pwd.getpwnam("nobody")
    template = run(scheduler, os.getppid)
    (inner,) = Path("/dev/shm").glob(f"scaler-objects-{agent.pid}-*/objects")
    folder = inner.parent
    shutil.rmtree(folder)
    inner.mkdir(parents=True)
    os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        os.kill(template, signal.SIGKILL)
        assert agent.wait(20) == 1
        assert inner.stat().st_uid == 0, "the agent gives away nothing there"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert "no folder for the objects of tasks any more" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@as_root
def test_a_user_that_does_not_exist_is_one_clear_error() -> None:
    command = [sys.executable, "-m", "scaler_worker", "tcp://127.0.0.1:9", "--user", "no-such-user"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "--user no-such-user: this host has no such user" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


@as_root
def test_who_is_not_root_cannot_have_another_user() -> None:
    program = "import os, sys; os.setuid(65534); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    arguments = ["-m", "scaler_worker", "tcp://127.0.0.1:9", "--user", "daemon"]
    ended = subprocess.run(
        [*readable_python(), "-c", program, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "--user daemon: only root can run processors as another user" in ended.stderr + ended.stdout


@as_root
def test_what_cannot_be_applied_ends_the_agent_with_the_flag(start: Start) -> None:
    # Without the right to change users, root is not root enough.
    program = (
        "import ctypes, sys; [ctypes.CDLL(None).prctl(24, right, 0, 0, 0) for right in (6, 7)];"
        "import os; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    arguments = ["-m", "scaler_worker", "tcp://127.0.0.1:9", "-n", "1", "--user", "nobody"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "--user cannot be had on this host: " in ended.stderr + ended.stdout


def _go_on_for_ever(path: str) -> None:
    while True:
        with contextlib.suppress(BaseException):
            # In here, as it may be cancelled as soon as that can be read.
            Path(path).write_text("begun")
            time.sleep(60.0)  # sleeps: the task is to be killed


RIGHTS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
"""What the documented systemd unit leaves root: numbers of the kernel's capabilities."""


@as_root
def test_root_needs_five_rights_only(tmp_path: Path) -> None:
    program = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None)\n"
        f"[libc.prctl(24, right, 0, 0, 0) for right in range(64) if right not in {tuple(RIGHTS.values())}]\n"
        "libc.prctl(38, 1, 0, 0, 0)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    scheduler = FakeScheduler(storage=True)
    flags = ["-n", "1", "--user", "nobody", "--private-temporary-folder"]
    command = [*readable_python(), "-c", program, "-m", "scaler_worker", scheduler.address, *flags]
    with (tmp_path / "log").open("w") as log:
        agent = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        scheduler.wait_until(lambda: scheduler.hello)
        status, payload = end_of(scheduler, bytes, 8 * MIB)
        assert (status, payload[:1]) == (Status.SUCCESS, OBJECT)
        path = Path(run(scheduler, _temporary))
        numbers = scheduler.submit(_go_on_for_ever, [arguments(str(path))])
        wait_until(lambda: path.read_text() == "begun")
        scheduler.send(m.TaskCancel(CLIENT, array("Q", numbers)))
        # It does not end by itself, so the agent has to kill what is not its own.
        assert end_of(scheduler, len, "abc")[0] == Status.SUCCESS
        wait_until(lambda: not path.exists())
    finally:
        agent.terminate()
        agent.wait(30)
        scheduler.close()
    assert left_by(agent.pid) == []
    assert "Permission" not in (tmp_path / "log").read_text()


# --- memory


@with_groups
def test_a_task_that_takes_too_much_memory_dies_alone(start: Start, tmp_path: Path) -> None:
    scheduler, agent = start("--processor-memory-limit-bytes", str(128 * MIB), workers=2)
    slow = scheduler.submit(_own_number_once_there_is, [arguments(str(tmp_path / "may-end"))])
    status, text = end_of(scheduler, take_memory, 400 * MIB)
    assert status == Status.PROCESSOR_DIED
    assert f"--processor-memory-limit-bytes {128 * MIB}".encode() in text
    assert b"memory cgroup" in text
    (tmp_path / "may-end").touch()
    (neighbour,) = scheduler.values(slow)
    assert Path(f"/proc/{neighbour}").exists()
    assert agent.poll() is None
    assert run(scheduler, take_memory, 64 * MIB) == 64 * MIB
    assert "limited to 134217728 bytes by a memory cgroup" in (tmp_path / "log").read_text()


@with_groups
def test_what_a_task_starts_counts_too(start: Start) -> None:
    scheduler, _ = start("--processor-memory-limit-bytes", str(128 * MIB))

    def start_one(size: int) -> int:
        return subprocess.run([sys.executable, "-c", f"x = b'x' * {size}"], check=False).returncode

    status, payload = end_of(scheduler, start_one, 400 * MIB)
    assert status == Status.PROCESSOR_DIED or value_of(payload) == -signal.SIGKILL


@pytest.fixture
def no_groups(tmp_path: Path) -> dict[str, str]:
    """The environment of an agent that can make no groups."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, sys\n"
        "if 'scaler_worker' in sys.orig_argv:\n"
        "    import scaler_worker.fences.control_groups as groups\n"
        "    def none(*_):\n"
        "        raise groups.NoGroupsError('this test has none')\n"
        "    groups._find = none\n"
    )
    return {"PYTHONPATH": str(tmp_path)}


def test_without_groups_a_memory_error_names_the_limit(start: Start, tmp_path: Path, no_groups: dict[str, str]) -> None:
    scheduler, _ = start("--processor-memory-limit-bytes", str(128 * MIB), environment=no_groups)
    assert run(scheduler, take_memory, 32 * MIB) == 32 * MIB
    status, payload = end_of(scheduler, take_memory, 400 * MIB)
    assert status == Status.FAILED
    assert f"--processor-memory-limit-bytes {128 * MIB}" in value_of(payload)[2]
    pid = run(scheduler, os.getpid)
    assert run(scheduler, os.getpid) == pid
    assert "(RLIMIT_AS): this test has none" in (tmp_path / "log").read_text()


def test_without_groups_what_is_reserved_for_threads_is_not_counted() -> None:
    program = (
        "import threading, types\n"
        "from scaler_worker.fences.plan import Step\n"
        "from scaler_worker.fences.processor import ProcessorFences\n"
        "end = threading.Event()\n"
        "def hold(kept):\n"
        "    kept.append([bytes(2000) for _ in range(50)])\n"
        "    end.wait()\n"
        "def start():\n"
        "    kept = []\n"
        "    threading.Thread(target=hold, args=(kept,), daemon=True).start()\n"
        "    while not kept: pass\n"
        "start()\n"
        f"fences = types.SimpleNamespace(memory_bytes={128 * MIB}, steps=[Step.LIMIT_ADDRESS_SPACE])\n"
        "ProcessorFences(fences, 1).put_up()\n"
        "for _ in range(5): start()\n"
        f"bytearray({32 * MIB})\n"
        "end.set()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


# --- CPU time, files, core dumps, umask


def _burn(seconds: float) -> float:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass
    return seconds


def test_cpu_time_is_counted_for_each_task_anew(start: Start) -> None:
    scheduler, agent = start("--processor-cpu-seconds", "1")
    pids = [run(scheduler, lambda: (_burn(0.6), os.getpid())[1]) for _ in range(4)]
    assert len(set(pids)) == 1
    status, text = end_of(scheduler, _burn, 30.0)
    assert status == Status.LIMIT_EXCEEDED
    assert b"--processor-cpu-seconds 1" in text
    assert agent.poll() is None
    assert run(scheduler, _burn, 0.1) == 0.1


def test_a_task_that_raises_its_cpu_limit_does_not_get_beyond_the_hard_one(start: Start) -> None:
    scheduler, _ = start("--processor-cpu-seconds", "1")

    def raise_it() -> tuple[int, int]:
        import resource

        return resource.getrlimit(resource.RLIMIT_CPU)

    soft, hard = run(scheduler, raise_it)
    assert (soft, hard) == (2, 11)


def test_the_cpu_time_of_the_preload_is_nobodys(start: Start, tmp_path: Path) -> None:
    (tmp_path / "burning_module.py").write_text("import time\ndef burn():\n    while time.process_time() < 1.3: pass\n")
    preload = ("--preload", "burning_module:burn()")
    scheduler, _ = start("--processor-cpu-seconds", "1", *preload, environment={"PYTHONPATH": str(tmp_path)})

    def limits() -> tuple[float, tuple[int, int]]:
        import resource

        return time.process_time(), resource.getrlimit(resource.RLIMIT_CPU)

    (value,) = scheduler.values(scheduler.submit(limits, [arguments()]), 60.0)
    used, (soft, hard) = value
    assert used > 1.2
    assert soft - used >= 1.0
    assert hard - soft == 9


def test_a_processor_that_has_used_much_is_replaced_between_tasks(start: Start, tmp_path: Path) -> None:
    # Fewer than otherwise, each of which takes a second of the test. The preload runs before the limit begins.
    (tmp_path / "fewer_limits.py").write_text(
        "from scaler_worker.fences import cpu_time\ndef have(factor): cpu_time.CPU_TIME_FACTOR = factor\n"
    )
    preload = ("--preload", "fewer_limits:have(4)")
    scheduler, _ = start("--processor-cpu-seconds", "1", *preload, environment={"PYTHONPATH": str(tmp_path)})
    # The kernel counts by samples for this limit: on a busy machine a task may seem to have used half as much again.
    pids = [run(scheduler, lambda: (_burn(0.45), os.getpid())[1]) for _ in range(12)]
    # No task has failed, and none has run in a process of which it could not have had all its time.
    assert 2 <= len(set(pids)) <= 3


def test_too_many_open_files_are_the_tasks_own_error(start: Start) -> None:
    scheduler, _ = start("--processor-open-files", "100")

    def open_many() -> int:
        opened = []
        try:
            while True:
                opened.append(open(os.devnull))  # noqa: SIM115
        except OSError as error:
            return error.errno or 0
        finally:
            for file in opened:
                file.close()

    import errno

    pid = run(scheduler, os.getpid)
    assert run(scheduler, open_many) == errno.EMFILE
    assert run(scheduler, os.getpid) == pid


def test_core_dumps_are_off_unless_asked_for(start: Start) -> None:
    scheduler, _ = start()

    def limits() -> tuple[int, int]:
        import resource

        return resource.getrlimit(resource.RLIMIT_CORE)

    assert run(scheduler, limits) == (0, 0)


def test_umask_and_environment_are_what_was_asked_for(start: Start, tmp_path: Path) -> None:
    hidden = {"APP_PASSWORD": "x", "APP_NAME": "y", "OTHER": "z"}
    flags = ("--umask", "027", "--environment-allow", "APP_*", "--environment-deny", "*_PASSWORD")
    scheduler, _ = start(*flags, environment=hidden)

    def look(path: str) -> tuple[int, list[str], bytes]:
        open(path, "w").close()
        with open("/proc/self/environ", "rb") as environ:
            return os.stat(path).st_mode, sorted(os.environ), environ.read()

    mode, names, environ = run(scheduler, look, str(tmp_path / "made"))
    assert stat.S_IMODE(mode) == 0o640
    assert "APP_NAME" in names
    assert "PATH" in names
    assert not {"APP_PASSWORD", "OTHER"} & set(names)
    assert b"APP_PASSWORD" not in environ


# --- processes


def _fork_without_end() -> int:
    """Start processes that leave the group of this one, until the system allows no more; return how many."""
    import signal

    count = 0
    while count < 1000:
        try:
            pid = os.fork()
        except BlockingIOError:
            return count
        if not pid:
            os.setsid()
            while True:
                signal.pause()
        count += 1
    return count


@with_process_groups
@pytest.mark.parametrize(
    "flags", [(), pytest.param(("--user", "nobody", "--processor-memory-limit-bytes", "256MiB"), marks=as_root)]
)
def test_a_task_that_forks_without_end_ends_at_its_number(start: Start, tmp_path: Path, flags: tuple[str, ...]) -> None:
    scheduler, agent = start("--processor-processes", "40", *flags, workers=2)
    assert PROCESS_GROUP is not None
    assert "each processor may have 40 processes and threads" in (tmp_path / "log").read_text()
    greedy = scheduler.submit(_fork_without_end, [arguments()])
    (count,) = scheduler.values(greedy)
    assert 20 < count < 40
    # The other processor has a number of its own.
    with tempfile.TemporaryDirectory(prefix="scaler-test-", dir="/tmp") as meeting:
        os.chmod(meeting, 0o777)
        pids = scheduler.values(scheduler.submit(_own_number_beside_another, [arguments(meeting)] * 2))
    assert len(set(pids)) == 2
    groups = list(PROCESS_GROUP.glob(f"scaler-{agent.pid}-*"))
    assert len(groups) == 2
    # What it has started ends with it.
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(group.exists() for group in groups), 10, step=scheduler.poll)


@as_root
def test_without_groups_the_number_is_that_of_the_user(start: Start, tmp_path: Path, no_groups: dict[str, str]) -> None:
    flags = ("--user", "games", "--processor-processes", "32")
    scheduler, _ = start(*flags, environment=no_groups, workers=2)
    assert "all processes of games on this host together may have 64 threads" in (tmp_path / "log").read_text()
    assert 32 < run(scheduler, _fork_without_end) < 64


def test_a_number_of_processes_that_cannot_be_had_is_one_clear_error(no_groups: dict[str, str]) -> None:
    command = [sys.executable, "-m", "scaler_worker", "tcp://127.0.0.1:1", "--processor-processes", "32"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **no_groups})
    assert ended.returncode == 2
    assert "--processor-processes 32: without --user it needs cgroups: this test has none" in ended.stderr


# --- temporary folders


def _temporary() -> str:
    import tempfile

    with tempfile.NamedTemporaryFile(delete=False) as file:
        return file.name


@pytest.mark.parametrize("user", [(), pytest.param(("--user", "nobody"), marks=as_root)])
def test_each_processor_has_a_temporary_folder_that_ends_with_it(start: Start, user: tuple[str, ...]) -> None:
    scheduler, agent = start("--private-temporary-folder", *user)
    path = Path(run(scheduler, _temporary))
    assert path.exists()
    assert path.parent.parent.name.startswith(f"scaler-temporary-{agent.pid}-")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    end_of(scheduler, os._exit, 3)
    other = Path(run(scheduler, _temporary))
    assert other.parent != path.parent
    wait_until(lambda: not path.parent.exists())


def _leave_a_folder_that_never_ends() -> str:
    """Have a process, which outlives the processor, make more in its temporary folder than can be removed."""
    import tempfile

    folder = tempfile.gettempdir()
    if not os.fork():
        os.setsid()
        inside = os.open(folder, os.O_RDONLY)
        number = 0
        while True:
            number += 1
            with contextlib.suppress(OSError):
                os.mkdir(str(number), dir_fd=inside)
            # As the agent ends, it removes the rest, which so takes no longer the longer all of this has taken.
            while number % 1000 == 0 and len(os.listdir(inside)) > 5000:
                time.sleep(0.001)  # sleeps: until some of them are removed
    wait_until(lambda: len(os.listdir(folder)) > 1000, 20)
    return folder


@as_root
def test_removing_the_folder_of_a_task_keeps_nobody_waiting(start: Start) -> None:
    scheduler, _ = start("--private-temporary-folder", "--user", "nobody")
    folder = Path(run(scheduler, _leave_a_folder_that_never_ends))
    end_of(scheduler, os._exit, 3)
    # Another processor starts meanwhile, and ends, and so on.
    for _ in range(3):
        assert run(scheduler, os.getuid) == pwd.getpwnam("nobody").pw_uid
        end_of(scheduler, os._exit, 3)
    assert not folder.exists()
    assert any(path.name.startswith("aside-") for path in folder.parent.iterdir())


LEAVING = ("--private-temporary-folder", "--processor-memory-limit-bytes", str(128 * MIB))


def test_folders_and_groups_are_removed_after_the_agent_was_killed(start: Start) -> None:
    scheduler, agent = start(*LEAVING)
    path = Path(run(scheduler, _temporary))
    agent.kill()
    agent.wait()
    wait_until(lambda: not left_by(agent.pid))
    assert not path.exists()


def test_folders_and_groups_of_an_agent_killed_with_its_template_go_at_the_next_start(start: Start) -> None:
    scheduler, agent = start(*LEAVING)
    path = Path(run(scheduler, _temporary))
    template, processor = run(scheduler, os.getppid), run(scheduler, os.getpid)
    # So that it cannot tidy up in between.
    os.kill(template, signal.SIGSTOP)
    agent.kill()
    os.kill(template, signal.SIGKILL)
    agent.wait()
    wait_until(lambda: _is_zombie(processor))
    assert path.exists()
    assert GROUP is None or len(list(GROUP.glob(f"scaler-{agent.pid}-*"))) == 1
    start(*LEAVING)
    assert left_by(agent.pid) == []


def test_only_modules_of_clients_are_imported_ahead(start: Start) -> None:
    scheduler, _ = start()

    def ask(module: str) -> None:
        from scaler_protocol.runtime.task_context import current_task_context

        context = current_task_context()
        assert context is not None
        context.open_relay(CLIENT, lambda _: None, lambda: None, module)
        context.close_relay(CLIENT)

    def loaded_at_start() -> tuple[bool, bool]:
        return "wave" in sys.modules, "scaler.client.operations" in sys.modules

    run(scheduler, ask, "wave")
    run(scheduler, ask, "scaler.client.operations")
    end_of(scheduler, os._exit, 3)

    def next_has_it() -> bool:
        if run(scheduler, loaded_at_start)[1]:
            return True
        end_of(scheduler, os._exit, 3)
        return False

    wait_until(next_has_it, 20)
    assert run(scheduler, loaded_at_start) == (False, True)
