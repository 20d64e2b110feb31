"""The command `scaler_keys`, and that changes of a directory are whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.command import main
from scaler_protocol.security.connection_file import read_connection
from scaler_protocol.security.directory import load_peer, load_server, read_allowed
from scaler_protocol.security.errors import SecurityFileError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory as `generate` makes it."""
    path = tmp_path / "keys"
    assert main(["generate", str(path)]) == 0
    return path


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("scaler_keys: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_generate_makes_private_files_for_every_role(directory: Path) -> None:
    os.umask(os.umask(0o022))
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {
        "server.key": 0o600,
        "server.pub": 0o644,
        "allowed_keys": 0o644,
        **{f"{role}.key": 0o600 for role in ("client", "worker", "adapter", "monitor", "operator")},
    }
    assert directory.stat().st_mode & 0o777 == 0o700
    server = load_server(directory)
    for role in (KeyRole.CLIENT, KeyRole.WORKER, KeyRole.ADAPTER, KeyRole.MONITOR, KeyRole.OPERATOR):
        found = server.authority(load_peer(directory, role).own.public)
        assert found is not None
        assert found.role is role


def test_nothing_is_overwritten(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(directory)
    assert "has keys already; nothing" in refused(capsys, "generate", str(directory))
    part = tmp_path / "part"
    part.mkdir(mode=0o700)
    (part / "server.pub").touch()
    assert "keys already, but no server.key: name another" in refused(capsys, "generate", str(part))
    assert "name client already" in refused(capsys, "add", str(directory), "--role", "client", "--name", "client")
    assert "no key with the name 'nobody'" in refused(capsys, "revoke", str(directory), "nobody")
    (directory / "left.key").write_text("somebody's")
    assert "left.key exists, although no key of this name is let in" in refused(
        capsys, "add", str(directory), "--role", "client", "--name", "left"
    )
    (directory / "left.key").unlink()
    file = tmp_path / "c.scaler"
    words = ["connect", str(directory), "--name", "client", "--address", "tcp://127.0.0.1:1", "-o", str(file)]
    assert main(words) == 0
    assert "c.scaler exists" in refused(capsys, *words)
    assert snapshot(directory) == before


@pytest.mark.parametrize("name", ["", "../x", "a b", "a\nb", "server", "-x", "é", "n" * 65, "."])
def test_names_are_plain(directory: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(directory)
    assert "is no name for a key" in refused(capsys, "add", str(directory), "--role", "client", f"--name={name}")
    assert snapshot(directory) == before


def test_add_list_and_revoke(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", str(directory), "--role", "client", "--name", "pricing"]) == 0
    public = read_allowed(directory / "allowed_keys")[-1].public
    assert main(["revoke", str(directory), "client"]) == 0
    capsys.readouterr()
    assert main(["list", str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["worker", "adapter", "monitor", "operator", "pricing"]
    assert load_server(directory).authority(public) is not None
    assert (directory / "allowed_keys").read_text().startswith("# Who is let in")


def test_a_revoked_name_can_be_used_again(directory: Path) -> None:
    first = load_peer(directory, KeyRole.CLIENT).own.public
    assert main(["revoke", str(directory), "client"]) == 0
    assert not (directory / "client.key").exists()
    assert main(["add", str(directory), "--role", "client", "--name", "client"]) == 0
    server = load_server(directory)
    assert server.authority(first) is None
    assert server.authority(load_peer(directory, KeyRole.CLIENT).own.public) is not None


def test_revoke_leaves_a_file_with_another_key(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "client.key").write_bytes((directory / "worker.key").read_bytes())
    assert main(["revoke", str(directory), "client"]) == 0
    assert (directory / "client.key").exists()
    (directory / "monitor.key").chmod(0o644)
    said = refused(capsys, "revoke", str(directory), "monitor")
    assert "monitor is not let in any more, but " in said
    assert [a.name for a in read_allowed(directory / "allowed_keys")] == ["worker", "adapter", "operator"]


def test_rotate_lets_both_keys_in_until_the_earlier_one_is_revoked(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_peer(directory, KeyRole.CLIENT).own.public
    capsys.readouterr()
    assert main(["rotate", str(directory), "client"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{directory / 'client.key'} has a new key.")
    after = load_peer(directory, KeyRole.CLIENT).own.public
    server = load_server(directory)
    found = {authority.public: (authority.name, authority.role) for authority in server.allowed}
    assert before != after
    assert found[before] == ("client.earlier", KeyRole.CLIENT)
    assert found[after] == ("client", KeyRole.CLIENT)
    assert (directory / "client.key").stat().st_mode & 0o777 == 0o600
    assert "still lets in an earlier key of client: scaler_keys revoke" in refused(
        capsys, "rotate", str(directory), "client"
    )
    # What it says to do afterwards can be done.
    assert main(told.split("scaler_keys ")[1].split()) == 0
    assert server.refresh()
    assert server.authority(before) is None
    assert server.authority(after) is not None
    assert load_peer(directory, KeyRole.CLIENT).own.public == after
    assert "no key with the name 'nobody'" in refused(capsys, "rotate", str(directory), "nobody")


def test_what_is_handed_out_is_enough_and_no_more(directory: Path, tmp_path: Path) -> None:
    assert main(["export", str(directory), "worker", str(tmp_path / "w")]) == 0
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"server.pub", "worker.key"}
    assert load_peer(tmp_path / "w", KeyRole.WORKER).own.public == load_peer(directory, KeyRole.WORKER).own.public
    assert main(["export", str(directory), "server", str(tmp_path / "s")]) == 0
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"server.pub", "server.key", "allowed_keys"}
    assert load_server(tmp_path / "s").allowed[:5] == load_server(directory).allowed[:5]


def test_a_connection_file_says_where_and_who(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.scaler"
    words = ["connect", str(directory), "--name", "client", "--address", "tcp://10.0.0.5:2345", "-o", str(file)]
    assert main(words) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    connection = read_connection(file)
    assert (connection.address, connection.role) == ("tcp://10.0.0.5:2345", "client")
    assert connection.security.own.secret == load_peer(directory, KeyRole.CLIENT).own.secret
    assert connection.security.server == load_server(directory).own.public
    for address in ("10.0.0.5", "tcp://10.0.0.5:0", "tcp://a\nb:1"):
        refused(capsys, *words[:5], address, "-o", str(tmp_path / "other"))
    odd = tmp_path / "odd.scaler"
    assert main(["connect", str(directory), "--name", "client", "--address", 'ipc:///a"b\\c', "-o", str(odd)]) == 0
    assert read_connection(odd).address == 'ipc:///a"b\\c'
    file.chmod(0o640)
    with pytest.raises(SecurityFileError, match="chmod 600"):
        read_connection(file)


def test_keys_added_at_the_same_time_are_all_let_in(directory: Path) -> None:
    words = [sys.executable, "-m", "scaler_protocol.security.command", "add", str(directory), "--role", "client"]
    started = [subprocess.Popen([*words, "--name", f"c{number}"], stdout=subprocess.DEVNULL) for number in range(8)]
    assert [process.wait(60) for process in started] == [0] * 8
    names = {authority.name for authority in read_allowed(directory / "allowed_keys")}
    assert names >= {f"c{number}" for number in range(8)}
    assert not [path for path in directory.iterdir() if path.name.endswith(".new")]


def test_a_folder_that_cannot_be_written_to_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/proc/scaler-keys" in refused(capsys, "generate", "/proc/scaler-keys")


@pytest.mark.parametrize("address", ["tcp://\udc8e:1", "ipc:///tmp/\x7f", "ipc:///tmp/\udcff"], ids=ascii)
def test_an_address_that_no_file_can_hold_is_one_line_and_makes_nothing(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    words = ["connect", str(directory), "--name", "client", "--address", address, "-o", str(tmp_path / "made")]
    assert "--address" in refused(capsys, *words)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_export_copies_no_files_that_no_server_could_use(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "allowed_keys").write_bytes(b"\xff")
    assert "allowed_keys" in refused(capsys, "export", str(directory), "server", str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["worker", "server"])
def test_export_writes_no_secret_where_others_can_write(
    name: str, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    assert "chmod go-w" in refused(capsys, "export", str(directory), name, str(theirs))
    (tmp_path / "out").symlink_to(theirs)
    assert "is a symbolic link" in refused(capsys, "export", str(directory), name, str(tmp_path / "out"))
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("words", [("export", "keys", "worker"), ("export", "keys", "server"), ("generate",)])
def test_no_link_leads_to_another_folder(
    words: tuple[str, ...],
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(directory.parent)
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(own)
    assert "link is a symbolic link" in refused(capsys, *words, "link")
    assert list(own.iterdir()) == []


INTERRUPTED = """
import os, signal, sys
from scaler_protocol.security.command import main

replace, at, when = os.replace, int(sys.argv[1]), sys.argv[2]

def replaced(*names):
    global at
    at -= 1
    if at == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
    if at == 0:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replaced
main(["rotate", sys.argv[3], "client"])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_killed_rotation_leaves_a_key_that_is_let_in(at: int, when: str, directory: Path) -> None:
    def key_is_let_in() -> bool:
        return load_server(directory).authority(load_peer(directory, KeyRole.CLIENT).own.public) is not None

    first = load_peer(directory, KeyRole.CLIENT).own.public
    for step in ("revoke", "rotate"):
        killed = subprocess.run([sys.executable, "-c", INTERRUPTED, str(at), when, str(directory)], check=False)
        assert killed.returncode == -9
        assert key_is_let_in()
        is_listed = "client.earlier" in {authority.name for authority in load_server(directory).allowed}
        assert is_listed == ((at, when) != (1, "before"))
        if step == "rotate" and (at, when) != (2, "after"):
            # It is done again, or the rest of it.
            assert main(["rotate", str(directory), "client"]) == 0
        if is_listed or step == "rotate":
            assert main(["revoke", str(directory), "client.earlier"]) == 0
            assert load_peer(directory, KeyRole.CLIENT).own.public != first
        assert key_is_let_in()
    assert not [path.name for path in directory.iterdir() if path.name.startswith(".")]


def test_a_key_that_is_not_there_is_told_with_those_that_are(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, "connect", str(directory), "--name", "nobody", "--address", "tcp://127.0.0.1:1")
    assert told.endswith(
        f"{directory} has no key with the name nobody; there are adapter, client, monitor, operator, worker. "
        f"scaler_keys add {directory} --role ROLE --name nobody makes one\n"
    )
    assert "no key with the name nobody" in refused(capsys, "export", str(directory), "nobody", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("role", "fits"), [("client", True), ("operator", True), ("worker", False), ("monitor", False)]
)
def test_a_connection_file_for_something_else_than_a_client_says_so(
    role: str, fits: bool, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{role}.scaler"
    capsys.readouterr()
    words = ["connect", str(directory), "--name", role, "--address", "tcp://127.0.0.1:1", "-o", str(file)]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{file}\n"
    assert shown.err.startswith("" if fits else f"This is the key of a {role}")
    assert bool(shown.err) is not fits


def test_what_is_left_of_another_name_s_rotation_stays(directory: Path) -> None:
    # A key may be named "client.key": its file's drafts begin like those of the client's, and like those of the list.
    left = [directory / ".client.key.key.99.new", directory / ".allowed_keys.key.99.new"]
    for path in left:
        path.write_text("a key that is let in")
    own = directory / ".client.key.99.new"
    own.write_text("half of a key")
    assert main(["rotate", str(directory), "client"]) == 0
    assert all(path.exists() for path in left)
    assert not own.exists()
