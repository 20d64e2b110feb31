"""The files of a security directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.directory import load_peer, load_server, pair_text, read_allowed, read_key
from scaler_protocol.security.directory_changes import connect, generate
from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.keys import KeyPair, from_text, new_key_pair, public_of, to_text


def write_pair(path: Path, pair: KeyPair, head: str = "") -> None:
    path.write_text(head + pair_text(pair))
    path.chmod(0o600)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with keys of three owners."""
    server = new_key_pair()
    write_pair(tmp_path / "server.key", server)
    (tmp_path / "server.pub").write_text(to_text(server.public) + "\n")
    lines = ["# who is let in", ""]
    for name, role in (("pricing", "client"), ("client", "client"), ("worker", "worker")):
        pair = new_key_pair()
        write_pair(tmp_path / f"{name}.key", pair, f'name = "{name}"\nrole = "{role}"\n')
        lines.append(f"{to_text(pair.public)} {role} {name}")
    (tmp_path / "allowed_keys").write_text("\n".join(lines))
    return tmp_path


def test_both_ends_read_what_belongs_together(directory: Path) -> None:
    server, worker = load_server(directory), load_peer(directory, KeyRole.WORKER)
    assert worker.server == server.own.public
    found = server.authority(worker.own.public)
    assert found is not None
    assert (found.name, found.role) == ("worker", KeyRole.WORKER)


def test_the_key_named_as_the_role_comes_first(directory: Path) -> None:
    server = load_server(directory)
    found = server.authority(load_peer(directory, KeyRole.CLIENT).own.public)
    assert found is not None
    assert found.name == "client"
    (directory / "client.key").unlink()
    found = server.authority(load_peer(directory, KeyRole.OPERATOR, KeyRole.CLIENT).own.public)
    assert found is not None
    assert found.name == "pricing"


def test_a_peer_may_name_a_file(directory: Path, tmp_path: Path) -> None:
    key = directory / "pricing.key"
    peer = load_peer(key, KeyRole.OPERATOR, KeyRole.CLIENT)
    assert (peer.own.secret, peer.server) == (read_key(key).pair.secret, load_server(directory).own.public)
    # A connection file needs no server.pub beside it.
    (tmp_path / "elsewhere").mkdir()
    connection = tmp_path / "elsewhere" / "pricing.scaler"
    connect(directory, "pricing", "tcp://10.0.0.5:2345", connection)
    same = load_peer(connection, KeyRole.CLIENT)
    assert (same.own.secret, same.server) == (peer.own.secret, peer.server)
    with pytest.raises(SecurityFileError, match=r"pricing.key has a key of the role client, not monitor or operator"):
        load_peer(key, KeyRole.MONITOR, KeyRole.OPERATOR)
    for file in (key, directory / "server.key"):
        with pytest.raises(SecurityFileError, match=r"is a file: a server needs the directory with server.key and"):
            load_server(file)
    with pytest.raises(SecurityFileError, match=r"server.key: name = "):
        load_peer(directory / "server.key", KeyRole.CLIENT)


def test_a_missing_role_is_named_with_the_command_that_adds_one(directory: Path) -> None:
    with pytest.raises(
        SecurityFileError, match=r"no key of the role monitor or operator: scaler_keys add .* --role monitor"
    ):
        load_peer(directory, KeyRole.MONITOR, KeyRole.OPERATOR)


def test_a_key_may_begin_with_a_hash_sign(directory: Path) -> None:
    secret, public = bytes(32), bytes(32)
    for number in range(100_000):
        secret = number.to_bytes(32, "little")
        public = public_of(secret)
        if to_text(public).startswith("#"):
            break
    (directory / "allowed_keys").write_text(f"#\n# {to_text(public)} client none\n{to_text(public)} client odd\n")
    assert [authority.public for authority in read_allowed(directory / "allowed_keys")] == [public]
    assert from_text(to_text(public)) == public


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("abc", "expected PUBLIC ROLE NAME"),
        ("abc client name", "a key has 40 characters"),
        ("a" * 40 + " owner name", "'owner' is no role"),
        ("a" * 40 + " scheduler name", "'scheduler' is no role"),
        ("a" * 40 + " client ../name", "is no name for a key"),
        ("a" * 40 + " client server", "is no name for a key"),
        ("a" * 40 + " client " + "n" * 65, "is no name for a key"),
        ("a" * 40 + " client client", "stands in the list already"),
    ],
)
def test_a_bad_line_is_named(directory: Path, line: str, what: str) -> None:
    path = directory / "allowed_keys"
    text = path.read_text()
    number = len(text.split("\n")) + 1
    path.write_text(f"{text}\n{line}\n")
    with pytest.raises(SecurityFileError, match=f"allowed_keys, line {number}: .*{what}"):
        load_server(directory)


@pytest.mark.parametrize("name", ["server.key", "worker.key"])
def test_secrets_that_others_can_read_are_refused(directory: Path, name: str) -> None:
    (directory / name).chmod(0o644)
    with pytest.raises(SecurityFileError, match=f"{name} contains a secret that others can read.*chmod 600"):
        load_server(directory) if name == "server.key" else load_peer(directory, KeyRole.WORKER)


@pytest.mark.parametrize("name", ["allowed_keys", "server.pub", "."])
def test_what_others_can_change_is_refused(directory: Path, name: str) -> None:
    security, path = load_server(directory), directory / name
    path.chmod(path.stat().st_mode | 0o022)
    with pytest.raises(SecurityFileError, match=r"others can change it .*chmod go-w"):
        load_peer(directory, KeyRole.WORKER) if name == "server.pub" else load_server(directory)
    if name != "server.pub":
        (directory / "allowed_keys").open("a").close()
        os.utime(directory / "allowed_keys")
        with pytest.raises(SecurityFileError, match="others can change it"):
            security.refresh()


def test_others_may_add_files_where_they_can_replace_none(directory: Path) -> None:
    directory.chmod(0o1777)
    assert load_server(directory).allowed
    assert load_peer(directory, KeyRole.WORKER).server


def test_an_existing_folder_must_be_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(SecurityFileError, match="others can change it"):
        generate(tmp_path / "open")
    assert list((tmp_path / "open").iterdir()) == []


def test_a_bad_key_file_of_somebody_else_is_passed_over(directory: Path) -> None:
    (directory / "aaa.key").write_text("no key")
    (directory / "client.key").unlink()
    found = load_server(directory).authority(load_peer(directory, KeyRole.CLIENT).own.public)
    assert found is not None
    assert found.name == "pricing"
    with pytest.raises(SecurityFileError, match=r"aaa\.key"):
        load_peer(directory, KeyRole.MONITOR)


def test_a_pipe_is_no_file(directory: Path) -> None:
    (directory / "server.key").unlink()
    os.mkfifo(directory / "server.key", 0o600)
    with pytest.raises(SecurityFileError, match=r"server\.key is no file"):
        load_server(directory)


def test_a_pair_must_belong_together(directory: Path) -> None:
    write_pair(directory / "server.key", KeyPair(new_key_pair().public, new_key_pair().secret))
    with pytest.raises(SecurityFileError, match="does not belong to the secret one"):
        load_server(directory)


def test_no_directory_and_no_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SecurityFileError, match="scaler_keys generate"):
        load_server(tmp_path / "none")
    with pytest.raises(SecurityFileError, match=r"has no server\.key: scaler_keys generate "):
        load_server(tmp_path)
    with pytest.raises(SecurityFileError, match=r"has no server\.pub: who made the cluster's keys can hand one out"):
        load_peer(tmp_path, KeyRole.CLIENT)
    with pytest.raises(SecurityFileError, match="is no directory: who made the cluster's keys"):
        load_peer(tmp_path / "none", KeyRole.CLIENT)


def test_the_part_of_somebody_else_is_told_from_an_empty_directory(directory: Path) -> None:
    (directory / "server.key").unlink()
    with pytest.raises(SecurityFileError, match=r"has no server\.key: .* scaler_keys export DIR server OUT"):
        load_server(directory)


def test_a_server_is_not_started_with_the_key_of_another(directory: Path) -> None:
    own = (directory / "server.key").read_bytes()
    (directory / "server.key").write_bytes((directory / "worker.key").read_bytes())
    with pytest.raises(SecurityFileError, match=r"server\.key is a key of the role 'worker'"):
        load_server(directory)
    write_pair(directory / "server.key", new_key_pair())
    with pytest.raises(SecurityFileError, match=r"server\.key does not belong to .*server\.pub"):
        load_server(directory)
    (directory / "server.key").write_bytes(own)
    load_server(directory)


def test_only_where_keys_are_made_is_one_told_to_make_one(directory: Path) -> None:
    with pytest.raises(SecurityFileError, match=r"scaler_keys add .* --role monitor"):
        load_peer(directory, KeyRole.MONITOR)
    (directory / "allowed_keys").unlink()
    with pytest.raises(
        SecurityFileError, match="no key of the role monitor: who made the cluster's keys can hand one out"
    ):
        load_peer(directory, KeyRole.MONITOR)


def test_a_changed_list_is_read_once_and_a_broken_one_leaves_the_earlier(directory: Path) -> None:
    security = load_server(directory)
    client = load_peer(directory, KeyRole.CLIENT).own.public
    path = directory / "allowed_keys"
    assert not security.refresh()
    lines = path.read_text().split("\n")
    path.write_text("\n".join(line for line in lines if not line.endswith(" client")))
    assert security.refresh()
    assert not security.refresh()
    assert security.authority(client) is None
    worker = load_peer(directory, KeyRole.WORKER).own.public
    path.write_text("nonsense in the list\n")
    with pytest.raises(SecurityFileError, match="line 1"):
        security.refresh()
    assert not security.refresh()
    assert security.authority(worker) is not None
    path.unlink()
    with pytest.raises(SecurityFileError, match="No such file"):
        security.refresh()
    assert security.authority(worker) is not None
