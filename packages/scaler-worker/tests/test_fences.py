"""The parts of fences that need neither root nor a kernel's control groups. Groups are made in a copy of such a file system."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import struct
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scaler_protocol.testing.waiting import wait_until
from scaler_worker.fences import background_removal, control_groups, private_folders, removal
from scaler_worker.fences.background_removal import BackgroundRemoval
from scaler_worker.fences.control_groups import NoGroupsError, find_groups
from scaler_worker.fences.environment import EnvironmentFilter
from scaler_worker.fences.plan import (
    Account,
    Cause,
    ControlGroups,
    FenceError,
    Fences,
    Host,
    Step,
    Wanted,
    descriptions,
    plan,
)
from scaler_worker.fences.remains import FenceRemains
from scaler_worker.fences.removal import remove_folder
from scaler_worker.processor.object_files import read_object, write_object
from scaler_worker.shell.object_cache import remake_object_folder

NOBODY = Account("nobody", 65534, 65534, (65534,), "/nonexistent")
GROUPS = ControlGroups(2, "/sys/fs/cgroup/a/scaler-7-")
EVERYTHING = Wanted("nobody", 64 * 1024**2, open_files=100, processes=50, workers=4, cpu_seconds=10, umask=0o027)


def test_the_user_changes_last_and_what_needs_root_comes_before() -> None:
    fences = plan(EVERYTHING, Host(True, NOBODY, GROUPS))
    assert fences.steps == (
        Step.JOIN_MEMORY_GROUP,
        Step.LIMIT_PROCESSES_OF_USER,
        Step.LIMIT_OPEN_FILES,
        Step.LIMIT_CORE_DUMPS,
        Step.SET_UMASK,
        Step.CHANGE_USER,
    )


def test_nothing_asked_for_means_no_core_dumps_only() -> None:
    fences = plan(Wanted(), Host(memory_groups=GROUPS, account=NOBODY))
    assert fences == Fences()
    assert fences.steps == (Step.LIMIT_CORE_DUMPS,)
    assert descriptions(fences, Host()) == []


def test_without_memory_groups_the_address_space_is_limited_and_the_log_says_why() -> None:
    host = Host(no_memory_groups="they are read-only")
    fences = plan(Wanted(memory_bytes=64 * 1024**2), host)
    assert fences.steps == (Step.LIMIT_ADDRESS_SPACE, Step.LIMIT_CORE_DUMPS)
    (line,) = descriptions(fences, host)
    assert "RLIMIT_AS" in line
    assert "they are read-only" in line
    assert "--processor-memory-limit-bytes 67108864" in fences.memory_note
    with_groups = Host(memory_groups=GROUPS)
    assert "cgroup (v2)" in descriptions(plan(Wanted(memory_bytes=64 * 1024**2), with_groups), with_groups)[0]


def test_processes_are_counted_for_each_processor_where_there_are_groups() -> None:
    host = Host(True, NOBODY, GROUPS, process_groups=GROUPS)
    fences = plan(EVERYTHING, host)
    assert fences.steps[:2] == (Step.JOIN_MEMORY_GROUP, Step.JOIN_PROCESS_GROUP)
    assert fences.groups == (GROUPS,)
    assert "each processor may have 50 processes and threads (pids cgroup, v2)" in descriptions(fences, host)
    other = ControlGroups(1, "/sys/fs/cgroup/pids/scaler-7-")
    assert plan(EVERYTHING, replace(host, process_groups=other)).groups == (GROUPS, other)


def test_without_groups_processes_are_counted_for_the_user() -> None:
    host = Host(True, NOBODY, no_process_groups="they are read-only")
    fences = plan(Wanted(user="nobody", processes=50, workers=4), host)
    assert fences.steps == (Step.LIMIT_PROCESSES_OF_USER, Step.LIMIT_CORE_DUMPS, Step.CHANGE_USER)
    assert fences.processes == 200
    said = "all processes of nobody on this host together may have 200 threads (RLIMIT_NPROC): they are read-only"
    assert said in descriptions(fences, host)


@pytest.mark.parametrize(
    ("wanted", "host", "said"),
    [
        (Wanted(processes=10), Host(), "--processor-processes 10: must be at least 16"),
        (
            Wanted(processes=20),
            Host(no_process_groups="read-only"),
            "--processor-processes 20: without --user it needs cgroups: read-only",
        ),
        (Wanted(user="nobody"), Host(is_root=False, account=NOBODY), "--user nobody: only root"),
        (Wanted(user="nowhere"), Host(is_root=True), "--user nowhere: this host has no such user"),
        (Wanted(user="root"), Host(is_root=True, account=Account("root", 0, 0)), "--user root: that is root"),
        (Wanted(open_files=5000), Host(open_files_max=4096), "--processor-open-files 5000: .* more than 4096"),
        (Wanted(open_files=10), Host(), "--processor-open-files 10: must be at least 64"),
        (Wanted(memory_bytes=1000), Host(), "--processor-memory-limit-bytes 1000: must be at least 16777216"),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(wanted: Wanted, host: Host, said: str) -> None:
    with pytest.raises(FenceError, match=said):
        plan(wanted, host)


def test_fences_travel_as_json() -> None:
    for fences in (Fences(), plan(EVERYTHING, Host(True, NOBODY, GROUPS, process_groups=GROUPS))):
        assert Fences.from_document(json.loads(json.dumps(asdict(fences)))) == fences


def test_the_reason_names_the_flag() -> None:
    fences = plan(EVERYTHING, Host(True, NOBODY, GROUPS))
    assert "--processor-memory-limit-bytes 67108864" in fences.explain(Cause.MEMORY)
    assert "--processor-cpu-seconds 10" in fences.explain(Cause.CPU_TIME)
    assert fences.explain(Cause.NONE) == ""


def test_cpu_time_is_recognised_by_the_signal_or_by_what_was_used() -> None:
    remains = FenceRemains(Fences(cpu_seconds=2))
    assert remains.cause_of(0, -signal.SIGXCPU, 2.0) is Cause.CPU_TIME
    assert remains.cause_of(0, -signal.SIGKILL, 20.5) is Cause.CPU_TIME
    assert remains.cause_of(0, -signal.SIGKILL, 3.0) is Cause.NONE
    assert FenceRemains(Fences()).cause_of(0, -signal.SIGXCPU, 2.0) is Cause.NONE


def test_a_crash_under_a_limit_of_the_address_space_may_come_of_it() -> None:
    limited = Fences(memory_bytes=64 * 1024**2)
    assert FenceRemains(limited).cause_of(0, -signal.SIGABRT, 0.0) is Cause.PERHAPS_MEMORY
    assert "perhaps because --processor-memory-limit-bytes" in limited.explain(Cause.PERHAPS_MEMORY)
    assert FenceRemains(limited).cause_of(0, -signal.SIGKILL, 0.0) is Cause.NONE
    assert FenceRemains(Fences()).cause_of(0, -signal.SIGABRT, 0.0) is Cause.NONE


# --- environment


def test_secrets_of_scaler_never_reach_tasks() -> None:
    for chosen in (EnvironmentFilter(), EnvironmentFilter(allow=("*",))):
        assert not chosen.passes("SCALER_ADAPTER_TOKEN")
        assert not chosen.passes("SCALER_WEBHOOK_SECRET_2")
        assert chosen.passes("AWS_SECRET_ACCESS_KEY")


def test_allowed_variables_come_beside_the_usual_ones_and_denied_ones_go() -> None:
    chosen = EnvironmentFilter(allow=("APP_*", "B"), deny=("APP_PASSWORD", "TZ", "PYTHONPATH"))
    names = ("PATH", "LC_ALL", "APP_X", "B", "PYTHONPATH", "APP_PASSWORD", "TZ", "BASH", "app_x")
    assert list(chosen.filtered(dict.fromkeys(names, ""))) == ["PATH", "LC_ALL", "APP_X", "B", "PYTHONPATH"]


# --- groups, in a copy of the kernel's file system


class FakeGroups:
    """A folder that looks like the kernel's control groups and /proc, as far as they are read."""

    def __init__(self, root: Path, version: int) -> None:
        self.process, self.mount = root / "proc-self", root / "cgroup"
        self.own = self.mount / "slice" / "worker"
        self.own.mkdir(parents=True)
        self.process.mkdir()
        self.number = root / "proc"
        self.number.mkdir()
        line = "0::/slice/worker" if version == 2 else "4:memory:/slice/worker"
        kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
        (self.process / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
        (self.process / "mountinfo").write_text(f"30 24 0:26 / {self.mount} rw,nosuid shared:4 - {kind}\n")
        if version == 2:
            (self.own / "cgroup.controllers").write_text("cpu memory\n")
            (self.own / "cgroup.subtree_control").write_text("memory\n")


@pytest.mark.parametrize("version", [1, 2])
def test_groups_of_agents_that_are_gone_are_removed(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeGroups(tmp_path, version)
    monkeypatch.setattr(os, "access", lambda *_: True)
    for name in ("scaler-11-0", "scaler-12-0"):
        (fake.own / name).mkdir()
    (fake.number / "12").mkdir()
    found = find_groups(77, process=fake.process, number=fake.number)
    assert found == ControlGroups(version, f"{fake.own}/scaler-77-")
    assert sorted(path.name for path in fake.own.glob("scaler-*")) == ["scaler-12-0"]


def test_a_group_with_processes_of_others_is_left_alone(tmp_path: Path) -> None:
    fake = FakeGroups(tmp_path, 2)
    (fake.own / "cgroup.subtree_control").write_text("\n")
    (fake.own / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    with pytest.raises(NoGroupsError, match=r"other processes than this worker's \(1\)"):
        find_groups(77, process=fake.process, number=fake.number)
    assert (fake.own / "cgroup.subtree_control").read_text() == "\n"


def test_the_agent_moves_into_a_group_below_before_it_delegates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeGroups(tmp_path, 2)
    (fake.own / "cgroup.subtree_control").write_text("")
    (fake.own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (fake.own / "scaler-agent").mkdir()
    (fake.own / "scaler-agent" / "cgroup.procs").write_text("")
    monkeypatch.setattr(os, "access", lambda *_: True)
    find_groups(77, process=fake.process, number=fake.number)
    assert (fake.own / "scaler-agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert (fake.own / "cgroup.subtree_control").read_text() == "+memory"


def test_groups_of_processes_lie_beside_those_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGroups(tmp_path, 2)
    (fake.own / "cgroup.controllers").write_text("memory pids\n")
    (fake.own / "cgroup.procs").write_text("")
    # To make groups of memory, the agent has moved itself.
    (fake.own / "scaler-agent").mkdir()
    (fake.process / "cgroup").write_text("0::/slice/worker/scaler-agent\n")
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert find_groups(77, control_groups.PROCESSES, process=fake.process, number=fake.number).prefix == (
        f"{fake.own}/scaler-77-"
    )
    assert (fake.own / "cgroup.subtree_control").read_text().startswith("+pids")


def test_no_memory_controller_is_said(tmp_path: Path) -> None:
    fake = FakeGroups(tmp_path, 2)
    (fake.own / "cgroup.controllers").write_text("cpu\n")
    with pytest.raises(NoGroupsError, match="no memory cgroup"):
        find_groups(77, process=fake.process, number=fake.number)


def test_groups_that_cannot_be_made_are_said(tmp_path: Path) -> None:
    fake = FakeGroups(tmp_path, 2)
    # In a real one the kernel makes this file.
    with pytest.raises(NoGroupsError, match=r"memory\.max cannot be written"):
        find_groups(77, process=fake.process, number=fake.number)


@pytest.mark.parametrize(
    ("version", "name", "text", "expected"),
    [
        (2, "memory.events", "low 0\nmax 7\noom 2\noom_kill 1\n", True),
        (2, "memory.events", "low 0\nmax 7\noom 0\noom_kill 0\n", False),
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", True),
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", False),
    ],
)
def test_the_kernel_says_whether_the_limit_has_killed(
    version: int, name: str, text: str, expected: bool, tmp_path: Path
) -> None:
    groups = ControlGroups(version, f"{tmp_path}/scaler-1-")
    group = tmp_path / "scaler-1-5"
    group.mkdir()
    (group / name).write_text(text)
    assert control_groups.killed_by_limit(groups, 5) is expected
    fences = Fences(memory_bytes=1, memory_groups=groups)
    cause = FenceRemains(fences).cause_of(5, -signal.SIGKILL, 0.0)
    assert cause is (Cause.MEMORY if expected else Cause.NONE)
    assert FenceRemains(fences).cause_of(5, 1, 0.0) is Cause.NONE


# --- folders


def test_folders_of_agents_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone, alive = tmp_path / "scaler-temporary-4194305-x", tmp_path / f"scaler-temporary-{os.getpid()}-x"
    for folder in (gone, alive):
        folder.mkdir()
        (folder / "file").touch()
    made = private_folders.make_own_folder("scaler-temporary", tmp_path)
    assert not gone.exists()
    assert (alive / "file").exists()
    assert Path(made).stat().st_mode & 0o777 == 0o700


def test_a_number_that_another_process_has_now_keeps_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container every agent is process 1. What is in use is locked."""
    monkeypatch.setattr(private_folders, "MAKING_SECONDS", 0.0)
    left = tmp_path / f"scaler-temporary-{os.getpid()}-left"
    left.mkdir()
    used = private_folders.make_own_folder("scaler-temporary", tmp_path)
    private_folders.make_own_folder("scaler-temporary", tmp_path)
    assert not left.exists()
    assert Path(used).is_dir()


def nest(folder: Path, depth: int) -> None:
    """Make folders inside each other, deeper than a path may be long."""
    before = os.open(".", os.O_RDONLY)
    try:
        folder.mkdir()
        os.chdir(folder)
        for _ in range(depth):
            os.mkdir("deeper")
            os.chdir("deeper")
        Path("file").touch()
    finally:
        os.fchdir(before)
        os.close(before)


def test_folders_are_removed_however_deep_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Under load this takes long.
    monkeypatch.setattr(private_folders, "LEFT_SECONDS_MAX", 50.0)
    gone = tmp_path / "scaler-temporary-4194305-x"
    nest(gone, 3_000)
    private_folders.make_own_folder("scaler-temporary", tmp_path)
    assert not gone.exists()


def test_a_folder_is_removed_and_nothing_that_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "b").chmod(0o500)
    (folder / "a").chmod(0)
    assert remove_folder(folder) == ""
    assert not folder.exists()
    assert (tmp_path / "elsewhere" / "kept").exists()
    assert remove_folder(folder) == ""
    folder.symlink_to(tmp_path / "elsewhere")
    assert remove_folder(folder) != ""
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_what_cannot_be_removed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = tmp_path / "scaler-temporary-4194305-x"
    gone.mkdir()
    monkeypatch.setattr(private_folders, "remove_folder", lambda *_: "Device or resource busy")
    made = private_folders.make_own_folder("scaler-temporary", tmp_path)
    assert Path(made).is_dir()
    assert f"cannot remove {gone}, which an agent has left that was killed: Device or resource busy" in caplog.text


def test_folders_of_other_users_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = tmp_path / "scaler-temporary-4194305-x"
    nest(theirs, 50)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert Path(private_folders.make_own_folder("scaler-temporary", tmp_path)).is_dir()
    assert theirs.exists()
    assert caplog.text == ""


def test_an_error_in_removing_what_is_left_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> str:
        raise OSError(5, "Input/output error")

    (tmp_path / "scaler-temporary-4194305-x").mkdir()
    monkeypatch.setattr(private_folders, "remove_folder", broken)
    assert Path(private_folders.make_own_folder("scaler-temporary", tmp_path)).is_dir()
    assert "Input/output error" in caplog.text


def test_a_folder_of_an_agent_in_another_container_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "scaler-temporary-4194305-x"
    theirs.mkdir()
    held = os.open(theirs, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        private_folders.make_own_folder("scaler-temporary", tmp_path)
        assert theirs.exists()
    finally:
        os.close(held)


ID = b"i" * 16


def copied(folder: Path, object_id: bytes = ID, bytes_max: int = 1024**2) -> list[bytes] | None:
    """Return what an agent copies of a file that a processor of this user has written."""
    found = read_object(str(folder), object_id, bytes_max, os.getuid())
    return None if found is None else list(map(bytes, found))


def test_a_copy_of_an_object_is_what_was_written(tmp_path: Path) -> None:
    write_object(str(tmp_path), ID, [b"a" * 100, b"", b"bc"])
    assert copied(tmp_path, b"j" * 16) is None
    assert copied(tmp_path) == [b"a" * 100, b"", b"bc"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, struct.pack("=QQ", 1, 2**63), struct.pack("=QQ", 1, 100).ljust(64, b"\0") + b"x"]
)
def test_a_file_that_a_task_has_spoilt_does_no_harm(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ID.hex()).write_bytes(content)
    with pytest.raises(ValueError, match="not complete"):
        copied(tmp_path)


def test_what_a_task_puts_in_the_place_of_an_object_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    place = tmp_path / ID.hex()
    os.mkfifo(place)
    with pytest.raises(ValueError, match="not a file"):
        copied(tmp_path)
    place.unlink()
    place.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        copied(tmp_path)
    place.unlink()
    with place.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(ValueError, match="it has more than 1048576 bytes"):
        copied(tmp_path)
    with pytest.raises(ValueError, match="it has more than 17180917760 bytes"):
        copied(tmp_path, bytes_max=1 << 40)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f"{ID.hex()}.{os.getpid()}").symlink_to(victim)
    write_object(str(tmp_path), ID, [b"x"])
    assert victim.read_text() == "mine"
    assert copied(tmp_path) == [b"x"]


def test_an_object_that_costs_its_processor_nothing_is_not_copied() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        data = bytes(300_000)
        write_object(folder, ID, [data, b"", data])
        assert copied(Path(folder)) == [data, b"", data]
        place = Path(folder, ID.hex())
        head = place.read_bytes()[:64]
        with place.open("wb") as sparse:
            sparse.write(head)
            sparse.truncate(2 * 300_032 + 64)
        with pytest.raises(ValueError, match="not all of it was written"):
            copied(Path(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_second_name_of_a_file_of_somebody_else_is_no_object(tmp_path: Path) -> None:
    write_object(str(tmp_path), ID, [b"secret"], (NOBODY.uid, NOBODY.gid))
    with pytest.raises(ValueError, match="another user's"):
        copied(tmp_path)


# --- folders of tasks are removed beside everything else


def test_a_folder_that_cannot_even_be_renamed_does_not_end_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "3" / "left").mkdir(parents=True)
    monkeypatch.setattr(os, "rename", fail)
    FenceRemains(Fences(temporary_place=str(tmp_path))).remove(3)
    assert f"cannot remove {tmp_path}/3: [Errno 5] Input/output error" in caplog.text


def left_folder(place: Path, number: int) -> Path:
    folder = place / str(number)
    nest(folder, 10)
    (folder / "file").write_text("left")
    return folder


def test_a_folder_is_out_of_the_way_at_once_however_long_its_removal_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, begun, released = tmp_path / "place", tmp_path / "begun", tmp_path / "released"
    place.mkdir()

    def slow(path: str, seconds: float) -> str:
        begun.touch()
        wait_until(released.exists, 50)
        return remove_folder(path, seconds)

    monkeypatch.setattr(background_removal, "remove_folder", slow)
    background = BackgroundRemoval(str(place), lambda: None)
    first = left_folder(place, 1)
    background.take(str(first))
    assert not first.exists()
    wait_until(begun.exists, 20)
    child = background.pid
    for number in range(2, 5):
        background.take(str(left_folder(place, number)))
    background.look_after()
    assert background.pid == child, "one child at a time"
    assert len(os.listdir(place)) == 4
    assert os.getpriority(os.PRIO_PROCESS, child) == 19
    released.touch()

    def all_gone() -> bool:
        background.look_after()
        return not background.pid and not os.listdir(place)

    # The child has the lowest priority: on a busy machine, it waits for all others.
    wait_until(all_gone, 30)


def test_an_empty_folder_needs_no_process(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    background = BackgroundRemoval(str(tmp_path), lambda: None)
    background.take(str(tmp_path / "1"))
    background.take(str(tmp_path / "2"))
    assert (background.pid, os.listdir(tmp_path)) == (0, [])


def test_what_cannot_be_removed_is_left_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def fail(path: str, _seconds: float) -> str:
        tried.append(path)
        if path.endswith("1"):
            return "it is stuck"
        shutil.rmtree(path)
        return ""

    monkeypatch.setattr(background_removal, "remove_folder", fail)
    for number in (1, 2):
        left_folder(tmp_path, number).rename(tmp_path / f"aside-{number}")
    background_removal.remove_all_aside(str(tmp_path))
    assert os.listdir(tmp_path) == ["given-up-aside-1"]
    assert len(tried) == 2
    assert f"cannot remove {tmp_path}/aside-1: it is stuck" in caplog.text


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_removing_ends_at_its_deadline_whatever_there_is(tmp_path: Path, kind: str) -> None:
    for number in range(1000):
        path = tmp_path / "folder" / str(number)
        path.mkdir(parents=True) if kind == "folders" or not number else path.touch()
    assert "too many" in remove_folder(tmp_path / "folder", 0.0)
    assert len(os.listdir(tmp_path / "folder")) == 1000


def test_more_folders_than_are_looked_at_at_once_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "FOLDERS_MAX", 10)
    for number in range(35):
        for inner in range(35):
            (tmp_path / "folder" / str(number) / str(inner)).mkdir(parents=True)
    assert remove_folder(tmp_path / "folder") == ""
    assert not (tmp_path / "folder").exists()


# --- the folder for objects, made again


def test_a_folder_for_objects_that_was_removed_is_made_again(tmp_path: Path) -> None:
    account = Account("self", os.getuid(), os.getgid())
    folder = tmp_path / "scaler-objects-7-x"
    for _ in range(2):
        remake_object_folder(str(folder), account)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711
        assert stat.S_IMODE((folder / "objects").stat().st_mode) == 0o700
    (folder / "objects").rmdir()
    remake_object_folder(str(folder), account)
    assert (folder / "objects").is_dir()


@pytest.mark.parametrize("account", [None, Account("self", os.getuid(), os.getgid())], ids=["plain", "fenced"])
def test_a_link_in_the_place_of_a_folder_for_objects_is_not_followed(tmp_path: Path, account: Account | None) -> None:
    target = tmp_path / "target"
    target.mkdir(0o755)
    link = tmp_path / "scaler-objects-7-x"
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        remake_object_folder(str(link), account)
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert not list(target.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_user_s_folder_is_not_taken_for_the_one_for_objects(tmp_path: Path) -> None:
    folder = tmp_path / "scaler-objects-7-x"
    folder.mkdir()
    (folder / "objects").mkdir()
    os.chown(folder, NOBODY.uid, NOBODY.gid)
    for account in (None, NOBODY):
        with pytest.raises(FileExistsError):
            remake_object_folder(str(folder), account)
    assert (folder / "objects").stat().st_uid == 0
