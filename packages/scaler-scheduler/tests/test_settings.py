"""Every flag of `scaler_scheduler`: long and short form, TOML key, default."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.testing.settings import SERVER_FLAGS, DocumentedFlag, check_flag, check_table_is_complete
from scaler_scheduler import settings as settings_module
from scaler_scheduler.config import SchedulerConfig, flags
from scaler_scheduler.settings import SchedulerSettings
from scaler_scheduler.start_checks import checked

ARGUMENTS = ["tcp://127.0.0.1:2345"]

FLAGS = [
    DocumentedFlag(
        "object_storage_address", ("--object-storage-address", "-osa"), "tcp://h:1", Address.parse("tcp://h:1"), None
    ),
    DocumentedFlag("object_storage_memory_bytes", ("--object-storage-memory-bytes", "-osm"), "1000", 1000, None),
    DocumentedFlag("object_storage_path", ("--object-storage-path", "-osp"), "/var/a", Path("/var/a"), None),
    DocumentedFlag("object_storage_url", ("--object-storage-url", "-osu"), "s3://abc/d", "s3://abc/d", None),
    DocumentedFlag("object_storage_endpoint", ("--object-storage-endpoint", "-ose"), "http://a", "http://a", None),
    DocumentedFlag(
        "object_storage_password_file",
        ("--object-storage-password-file", "-ospf"),
        "/etc/word",
        Path("/etc/word"),
        None,
    ),
    DocumentedFlag("object_storage_timeout_seconds", ("--object-storage-timeout-seconds", "-ost"), "5", 5, None),
    DocumentedFlag("object_storage_disk_bytes", ("--object-storage-disk-bytes", "-osd"), "1000", 1000, None),
    DocumentedFlag("storage_path", ("--storage-path", "-sp"), "/var/a", Path("/var/a"), None),
    DocumentedFlag("storage_url", ("--storage-url", "-su"), "redis://a/0/b", "redis://a/0/b", None),
    DocumentedFlag("storage_endpoint", ("--storage-endpoint", "-se"), "http://a", "http://a", None),
    DocumentedFlag("storage_password_file", ("--storage-password-file", "-spf"), "/etc/word", Path("/etc/word"), None),
    DocumentedFlag("monitor_address", ("--monitor-address", "-ma"), "tcp://h:0", Address.parse("tcp://h:0"), None),
    DocumentedFlag("standby_of", ("--standby-of", "-so"), "tcp://h:1", Address.parse("tcp://h:1"), None),
    DocumentedFlag("standby_lease", ("--standby-lease", "-sl"), "valkey://h/0/name", "valkey://h/0/name", None),
    DocumentedFlag(
        "standby_lease_password_file",
        ("--standby-lease-password-file", "-slpf"),
        "/etc/word",
        Path("/etc/word"),
        None,
    ),
    DocumentedFlag("dashboard_url", ("--dashboard-url", "-du"), "http://h:50001", "http://h:50001", ""),
    DocumentedFlag("scaling_controller_strategy", ("--scaling-controller-strategy", "-scs"), "None", "none", None),
    DocumentedFlag(
        "adapter_webhook_urls",
        ("--adapter-webhook-urls", "--adapter-webhook-url", "-awu"),
        "http://h:8080",
        ("http://h:8080",),
        (),
    ),
    DocumentedFlag(
        "adapter_webhook_token_file",
        ("--adapter-webhook-token-file", "-awtf"),
        "/etc/token",
        Path("/etc/token"),
        None,
    ),
    DocumentedFlag("adapter_webhook_ca_file", ("--adapter-webhook-ca-file", "-awcf"), "/etc/ca", Path("/etc/ca"), None),
    DocumentedFlag("audit_log", ("--audit-log", "-al"), "/var/log/a", Path("/var/log/a"), None),
    DocumentedFlag("scaling_cool_down_seconds", ("--scaling-cool-down-seconds", "-scd"), "5", 5, 30),
    DocumentedFlag("no_worker_timeout_seconds", ("--no-worker-timeout-seconds", "-nwt"), "7", 7, 0),
    DocumentedFlag("protected", ("--protected", "-p"), None, True, False),
    DocumentedFlag("share", ("--share", "-sh"), "a=3,b=1:max_running=2", ("a=3", "b=1:max_running=2", "default=1"), ()),
    DocumentedFlag("ends_cluster", ("--ends-cluster", "-ec"), None, True, False),
    DocumentedFlag("allocate_policy", ("--allocate-policy", "-ap"), "even", "even", "capability"),
    DocumentedFlag("resources", ("--resources", "-rs"), "licence=3.0", "licence=3", ""),
    DocumentedFlag("max_number_of_tasks_waiting", ("--max-number-of-tasks-waiting", "-mt"), "10", 10, -1),
    DocumentedFlag("max_task_attempts", ("--max-task-attempts", "-mta"), "5", 5, 3),
    DocumentedFlag("client_timeout_seconds", ("--client-timeout-seconds", "-ct"), "1.5", 1.5, 60),
    DocumentedFlag("worker_timeout_seconds", ("--worker-timeout-seconds", "-wt"), "2", 2, 60),
    DocumentedFlag("object_retention_seconds", ("--object-retention-seconds", "-ot"), "0", 0, 60),
    DocumentedFlag("load_balance_seconds", ("--load-balance-seconds", "-ls"), "3", 3, 1),
    DocumentedFlag("load_balance_trigger_times", ("--load-balance-trigger-times", "-lbt"), "4", 4, 2),
    DocumentedFlag("standby_lease_seconds", ("--standby-lease-seconds", "-sls"), "5", 5, 3),
    DocumentedFlag("jobs_max", ("--jobs-max", "-jm"), "5", 5, 1000),
    DocumentedFlag("job_tasks_max", ("--job-tasks-max", "-jtm"), "5", 5, 1_000_000),
    DocumentedFlag("jobs_bytes_max", ("--jobs-bytes-max", "-jbm"), "5", 5, 1 << 30),
    DocumentedFlag("job_keep_seconds", ("--job-keep-seconds", "-jks"), "5", 5, 604_800),
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    *SERVER_FLAGS,
]


URL = ["--object-storage-url", "redis://a"]
NEEDED = {
    "object_storage_disk_bytes": ["--object-storage-path", "/var/a"],
    "object_storage_endpoint": URL,
    "object_storage_password_file": URL,
    "object_storage_timeout_seconds": URL,
    "standby_lease_password_file": ["--standby-lease", "redis://a"],
    "storage_password_file": ["--storage-url", "redis://a"],
    "storage_endpoint": ["--storage-url", "s3://abc"],
}
"""Flags that others go with."""


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(SchedulerSettings, [*ARGUMENTS, *NEEDED.get(flag.field, [])], flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(SchedulerSettings, FLAGS, besides=["address"])


def test_companions_are_found_on_the_next_two_ports() -> None:
    settings = SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345"])
    assert str(settings.own_object_storage_address) == "tcp://127.0.0.1:2346"
    assert str(settings.monitor_bind_address) == "tcp://127.0.0.1:2347"


def test_a_standby_needs_another_scheduler_that_it_comes_after() -> None:
    with pytest.raises(ConfigurationError, match="the address of this scheduler itself"):
        SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345", "--standby-of", "tcp://127.0.0.1:2345"])
    with pytest.raises(ConfigurationError, match="--ends-cluster says that no scheduler comes after this one"):
        SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345", "--standby-of", "tcp://h:1", "--ends-cluster"])


LEASE = ["--standby-lease", "redis://h"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--standby-lease", "s3://bucket"], "a lease needs a Redis or Valkey server"),
        (["--standby-lease", "h:6379"], "expected redis://"),
        (["--standby-lease", "redis://:secret@h"], "write it to a --standby-lease-password-file"),
        ([*LEASE, "--standby-of", "tcp://h:1"], "--standby-of and --standby-lease are both given"),
        ([*LEASE, "--ends-cluster"], "--ends-cluster says that no scheduler comes after this one"),
        (["--standby-lease-password-file", "/a"], "is for a --standby-lease, which is not given"),
    ],
)
def test_a_lease_is_in_a_redis_server_and_decides_alone(given: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        SchedulerSettings.from_command_line([*ARGUMENTS, *given])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--storage-url", "s3://key@bucket"], "an s3:// URL has no credentials"),
        (["--storage-url", "s3://abc", "--storage-password-file", "/a"], "is for a --storage-url redis://"),
        (["--storage-url", "redis://h", "--storage-endpoint", "http://a"], "is for a --storage-url s3://"),
        (["--storage-url", "/var/a"], "expected redis://"),
        (["--storage-url", "redis://:secret@h"], "write it to a --storage-password-file"),
        (["--storage-url", "redis://h", "--storage-path", "/a"], "--storage-path and --storage-url are both given"),
        (["--storage-password-file", "/a"], "is for a --storage-url redis://…, which is not given"),
        (["--storage-url", "s3://abc", "--storage-endpoint", "a:9000"], "does not begin with http:// or https://"),
        (["--storage-url", "s3://abc", "--storage-endpoint", "http://"], "--storage-endpoint: 'http://' names no host"),
        (["--storage-url", "s3://abc", "--storage-endpoint", "http://a:1:2"], "--storage-endpoint: 'http://a:1:2' has"),
        (
            ["--object-storage-url=s3://abc", "--object-storage-endpoint=http://"],
            "--object-storage-endpoint: 'http://' na",
        ),
        (["--storage-endpoint", "http://a"], "is for a --storage-url s3://…, which is not given"),
    ],
)
def test_jobs_are_kept_in_a_folder_or_in_one_store(given: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        SchedulerSettings.from_command_line([*ARGUMENTS, *given])
    assert "secret" not in str(caught.value)


def test_a_lease_needs_its_client_and_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    password = tmp_path / "password"
    with pytest.raises(ConfigurationError, match="--standby-lease-password-file"):
        checked(SchedulerSettings.from_command_line([*ARGUMENTS, *LEASE, "-slpf", str(password)]))
    password.write_text("secret")
    password.chmod(0o600)
    url = SchedulerSettings.from_command_line([*ARGUMENTS, *LEASE, "-slpf", str(password)]).read_standby_lease()
    assert url is not None
    assert url.password == "secret"
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"needs the package redis: pip install 'scaler-scheduler\[redis\]'"):
        checked(SchedulerSettings.from_command_line([*ARGUMENTS, *LEASE]))


def test_jobs_in_a_bucket_need_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SchedulerSettings.from_command_line([*ARGUMENTS, "--storage-url", "s3://bucket/scaler"])
    assert str(checked(settings).read_storage_url()) == "s3://bucket/scaler"
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"needs the package obstore: pip install 'scaler-scheduler\[s3\]'"):
        checked(settings)


def test_a_named_object_storage_server_is_not_started_again() -> None:
    settings = SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345", "-osa", "tcp://127.0.0.1:7000"])
    assert settings.own_object_storage_address is None


def test_settings_of_its_own_object_storage_do_not_go_with_another_one() -> None:
    with pytest.raises(
        ConfigurationError, match="--object-storage-path is for an object storage server that the sched"
    ):
        SchedulerSettings.from_command_line([*ARGUMENTS, "-osa", "tcp://127.0.0.1:7000", "-osp", "/var/a"])
    with pytest.raises(ConfigurationError, match="--object-storage-disk-bytes says how --object-storage-path or "):
        SchedulerSettings.from_command_line([*ARGUMENTS, "-osd", "1GiB"])
    with pytest.raises(ConfigurationError, match="-path and --object-storage-url are both given"):
        SchedulerSettings.from_command_line([*ARGUMENTS, "-osp", "/var/a", *URL])
    with pytest.raises(ConfigurationError, match="--object-storage-url is for an object storage server that the sched"):
        SchedulerSettings.from_command_line([*ARGUMENTS, "-osa", "tcp://127.0.0.1:7000", *URL])
    assert SchedulerSettings.from_command_line([*ARGUMENTS, "-osd", "1GiB", *URL]).object_storage_disk_bytes == 1024**3


@pytest.mark.parametrize("flag", ["endpoint=http://a", "password-file=/a", "timeout-seconds=5"])
def test_settings_of_a_store_below_memory_need_its_url(flag: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--object-storage-[a-z-]+ says how --object-storage-url is used"):
        SchedulerSettings.from_command_line([*ARGUMENTS, f"--object-storage-{flag}"])


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:2345", "tcp://*:0", "tcp://[::]:2345"])
def test_nobody_can_connect_to_object_storage_on_every_interface(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ADDRESS: .* --object-storage-address$"):
        checked(SchedulerSettings.from_command_line([address, "--insecure"]))
    named = checked(SchedulerSettings.from_command_line([address, "--insecure", "-osa", "tcp://10.0.0.1:2346"]))
    assert named.address.is_wildcard


def test_all_that_a_start_lacks_is_said_at_once(tmp_path: Path) -> None:
    given = ["tcp://0.0.0.0:2345", "--monitor-address", "tcp://0.0.0.0:9", "--audit-log", str(tmp_path / "no" / "log")]
    with pytest.raises(ConfigurationError) as caught:
        checked(SchedulerSettings.from_command_line(given))
    storage, address, monitor, audit = str(caught.value).splitlines()
    assert storage.endswith("give its address as --object-storage-address")
    assert address.startswith("ADDRESS: whoever reaches tcp://0.0.0.0:2345 ")
    assert monitor.startswith("--monitor-address: whoever reaches ")
    assert audit == f"--audit-log: cannot write to {tmp_path / 'no' / 'log'}: there is no folder {tmp_path / 'no'}"


def test_a_directory_without_keys_is_said_with_what_else_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        checked(SchedulerSettings.from_command_line(["tcp://0.0.0.0:2345", "--security-dir", str(tmp_path)]))
    storage, keys = str(caught.value).splitlines()
    assert storage.startswith("ADDRESS: ")
    assert keys.startswith(f"--security-dir: {tmp_path} has no server.key: scaler_keys generate {tmp_path} ")


def test_webhook_url_alone_means_the_vanilla_strategy() -> None:
    settings = SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345", "--adapter-webhook-url", "http://h:1"])
    assert settings.scaling_strategy == "vanilla"
    assert SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345"]).scaling_strategy == "none"


def test_several_webhook_urls_are_several_words() -> None:
    settings = SchedulerSettings.from_command_line(
        ["tcp://127.0.0.1:2345", "-scs", "FIXED_ELASTIC", "--adapter-webhook-urls", "http://h:1", "http://h:2"]
    )
    assert settings.scaling_strategy == "fixed_elastic"
    assert settings.adapter_webhook_urls == ("http://h:1", "http://h:2")


@pytest.mark.parametrize(
    "arguments",
    [["-scs", "vanilla"], ["-scs", "fixed_elastic", "-awu", "http://h:1"], ["-awu", "http://h:1", "http://h:2"]],
)
def test_a_strategy_needs_its_number_of_webhooks(arguments: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="--adapter-webhook-urls, not"):
        SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345", *arguments])


@pytest.mark.parametrize("url", ["h:8080", "ftp://h:1", "http://"])
def test_a_webhook_url_is_checked(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not of the form"):
        SchedulerSettings.from_command_line(["tcp://127.0.0.1:2345", "--adapter-webhook-url", url])


def test_type_checkers_know_the_flags_of_the_configuration() -> None:
    (declared,) = [
        node
        for node in ast.walk(ast.parse(Path(settings_module.__file__).read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "SchedulerSettings"
    ]
    fields = {
        ast.unparse(line.target): ast.unparse(line.annotation)
        for line in declared.body
        if isinstance(line, ast.AnnAssign)
    }
    assert fields == {name: SchedulerConfig.__annotations__[name] for name in flags()}
