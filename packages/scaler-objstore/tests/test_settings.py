"""Every flag of `scaler_object_storage_server`: long and short form, TOML key, default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.storage_url import RedisUrl
from scaler_protocol.testing.settings import SERVER_FLAGS, DocumentedFlag, check_flag, check_table_is_complete

HALF_OF_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

ARGUMENTS = ["tcp://127.0.0.1:0"]

FLAGS = [
    DocumentedFlag("memory_limit_bytes", ("--memory-limit-bytes", "-ml"), "1000", 1000, HALF_OF_MEMORY),
    DocumentedFlag("object_size_limit_bytes", ("--object-size-limit-bytes", "-osl"), "1000", 1000, 16 * 1024**3),
    DocumentedFlag("object_retention_seconds", ("--object-retention-seconds", "-ot"), "20", 20, 600),
    DocumentedFlag("storage_path", ("--storage-path", "-sp"), "/var/lib/a", Path("/var/lib/a"), None),
    DocumentedFlag("storage_url", ("--storage-url", "-su"), "redis://a:1/0/b", "redis://a:1/0/b", None),
    DocumentedFlag("storage_endpoint", ("--storage-endpoint", "-se"), "http://a:9000", "http://a:9000", None),
    DocumentedFlag("storage_password_file", ("--storage-password-file", "-spf"), "/etc/a", Path("/etc/a"), None),
    DocumentedFlag("storage_timeout_seconds", ("--storage-timeout-seconds", "-sts"), "5", 5.0, 20.0),
    DocumentedFlag("disk_limit_bytes", ("--disk-limit-bytes", "-dl"), "1000", 1000, None),
    DocumentedFlag("storage_fsync", ("--storage-fsync", "-sf"), None, True, False),
    DocumentedFlag("audit_log", ("--audit-log", "-al"), "/var/log/a", Path("/var/log/a"), None),
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    *SERVER_FLAGS,
]

NEEDED = {
    "disk_limit_bytes": ["--storage-path", "/var/lib/a"],
    "storage_fsync": ["--storage-path", "/var/lib/a"],
    "storage_endpoint": ["--storage-url", "s3://bucket/a"],
    "storage_password_file": ["--storage-url", "redis://a"],
}
"""Settings that say more about another one, which must be there."""


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(ObjectStorageSettings, [*ARGUMENTS, *NEEDED.get(flag.field, ())], flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(ObjectStorageSettings, FLAGS, besides=["address"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--disk-limit-bytes=1GiB"], "--disk-limit-bytes says how --storage-path or --storage-url is used"),
        (["--storage-fsync"], "--storage-fsync says how --storage-path is used"),
        (["--storage-path=/a", "--storage-url=redis://a"], "--storage-path and --storage-url are both given"),
        (["--storage-fsync", "--storage-url=redis://a"], "--storage-fsync says how --storage-path is used"),
        (["--storage-endpoint=http://a"], "--storage-endpoint says where a --storage-url s3://"),
        (["--storage-endpoint=http://a", "--storage-url=redis://a"], "--storage-endpoint says where"),
        (["--storage-endpoint=a:9000", "--storage-url=s3://abc"], "'a:9000' does not begin with http://"),
        (["--storage-endpoint=http://", "--storage-url=s3://abc"], "--storage-endpoint: 'http://' names no host"),
        (["--storage-password-file=/a", "--storage-url=s3://abc"], "--storage-password-file is for"),
        (["--storage-url=ftp://a"], "expected redis://"),
        (["--storage-url=redis://a/x"], "number of a database"),
        (["--storage-timeout-seconds=0"], "greater than 0"),
    ],
)
def test_flags_of_storage_fit_together(arguments: list[str], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        ObjectStorageSettings.from_command_line([*ARGUMENTS, *arguments])


@pytest.mark.parametrize("url", ["redis://:hush-hush@a", "valkey://me:hush-hush@a/0/b", "s3://key:hush-hush@bucket/b"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--storage-url") as refused:
        ObjectStorageSettings.from_command_line([*ARGUMENTS, "--storage-url", url])
    assert "hush-hush" not in str(refused.value)


def test_a_password_comes_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush-hush\n")
    file.chmod(0o600)
    arguments = [*ARGUMENTS, "--storage-url", "redis://me@a", "--storage-password-file", str(file)]
    settings = ObjectStorageSettings.from_command_line(arguments)
    url = settings.read_storage_url()
    assert isinstance(url, RedisUrl)
    assert (url.username, url.password) == ("me", "hush-hush")
    assert "hush-hush" not in f"{settings!r} {url} {url!r}"
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="--storage-password-file"):
        settings.read_storage_url()
