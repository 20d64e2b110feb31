"""Every flag of `scaler_object_storage_server`: long and short form, TOML key, default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.testing.settings import SERVER_FLAGS, DocumentedFlag, check_flag, check_table_is_complete

HALF_OF_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

ARGUMENTS = ["tcp://127.0.0.1:0"]

FLAGS = [
    DocumentedFlag("memory_limit_bytes", ("--memory-limit-bytes", "-ml"), "1000", 1000, HALF_OF_MEMORY),
    DocumentedFlag("object_size_limit_bytes", ("--object-size-limit-bytes", "-osl"), "1000", 1000, 16 * 1024**3),
    DocumentedFlag("object_retention_seconds", ("--object-retention-seconds", "-ot"), "20", 20, 600),
    DocumentedFlag("storage_path", ("--storage-path", "-sp"), "/var/lib/a", Path("/var/lib/a"), None),
    DocumentedFlag("disk_limit_bytes", ("--disk-limit-bytes", "-dl"), "1000", 1000, None),
    DocumentedFlag("storage_fsync", ("--storage-fsync", "-sf"), None, True, False),
    DocumentedFlag("audit_log", ("--audit-log", "-al"), "/var/log/a", Path("/var/log/a"), None),
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    *SERVER_FLAGS,
]


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    of_a_disk = flag.field in ("disk_limit_bytes", "storage_fsync")
    arguments = [*ARGUMENTS, "--storage-path", "/var/lib/a"] if of_a_disk else ARGUMENTS
    check_flag(ObjectStorageSettings, arguments, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(ObjectStorageSettings, FLAGS, besides=["address"])


@pytest.mark.parametrize("flag", ["--disk-limit-bytes=1GiB", "--storage-fsync"])
def test_flags_of_a_disk_need_its_path(flag: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag.partition('=')[0]} says how --storage-path is used"):
        ObjectStorageSettings.from_command_line([*ARGUMENTS, flag])
