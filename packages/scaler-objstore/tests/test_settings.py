"""Every flag of `scaler_object_storage_server`: long and short form, TOML key, default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.testing.settings import SERVER_FLAGS, DocumentedFlag, check_flag, check_table_is_complete

HALF_OF_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

ARGUMENTS = ["tcp://127.0.0.1:0"]

FLAGS = [
    DocumentedFlag("memory_limit_bytes", ("--memory-limit-bytes", "-ml"), "1000", 1000, HALF_OF_MEMORY),
    DocumentedFlag("object_size_limit_bytes", ("--object-size-limit-bytes", "-osl"), "1000", 1000, 16 * 1024**3),
    DocumentedFlag("audit_log", ("--audit-log", "-al"), "/var/log/a", Path("/var/log/a"), None),
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    *SERVER_FLAGS,
]


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(ObjectStorageSettings, ARGUMENTS, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(ObjectStorageSettings, FLAGS, besides=["address"])
