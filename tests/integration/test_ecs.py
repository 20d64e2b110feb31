"""The ECS adapter against moto's API server, and its workers as real processes where moto says that a task runs."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scaler_adapters.adapter import (
    AdapterError,
    GroupState,
    MalformedRequestError,
    NoCapacityError,
    ProvisioningError,
    StartRequest,
    UnknownGroupError,
)
from scaler_adapters.ecs.adapter import EcsAdapter
from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.free_ports import free_ports
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.ecs_stand_in import (
    CREDENTIALS,
    LOST,
    EcsStandIn,
    EcsWithProcesses,
    adapter_flags,
    error,
)
from tests.integration.elastic import groups_at, scheduler_with_adapter, url_of, work_to_spare
from tests.integration.functions import sleep_and_return

SCHEDULER = "tcp://10.0.0.1:2345"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def ecs(credentials: None) -> Iterator[EcsStandIn]:
    stand_in = EcsStandIn()
    yield stand_in
    stand_in.close()


def adapter_of(ecs: EcsStandIn, *flags: str) -> EcsAdapter:
    return EcsAdapter(EcsAdapterSettings.from_command_line([SCHEDULER, *adapter_flags(ecs), *flags]))


def test_a_group_is_one_task_with_the_workers_command(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs, "--workers-per-task=2", "-pwc=linux", "--task-timeout-seconds=7", "--python=python3")
    group = adapter.start(StartRequest({}, "r1"))
    ((_, words),) = [call for call in ecs.calls if call[0] == "RunTask"]
    assert (words["cluster"], words["taskDefinition"], words["count"]) == ("scaler", "workers", 1)
    assert words["launchType"] == "FARGATE"
    assert words["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": [ecs.subnet],
        "securityGroups": [ecs.security_group],
        "assignPublicIp": "DISABLED",
    }
    assert len(words["startedBy"]) <= 36
    assert len(words["clientToken"]) <= 64
    (override,) = words["overrides"]["containerOverrides"]
    assert override["name"] == "worker", "the first essential container"
    assert override["command"][:4] == ["python3", "-m", "scaler_worker", SCHEDULER]
    assert f"--worker-names={','.join(group.worker_ids)}" in override["command"]
    assert {"--num-of-workers=2", "--per-worker-capabilities=linux"} <= set(override["command"])
    assert "--task-timeout-seconds=7.0" in override["command"]
    assert len(group.worker_ids) == 2
    assert adapter.list() == [group]


def test_a_group_is_as_far_as_its_task(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    group = adapter.start(StartRequest())
    for status, state in (
        ("PROVISIONING", GroupState.PENDING),
        ("PENDING", GroupState.PENDING),
        ("ACTIVATING", GroupState.PENDING),
        ("RUNNING", GroupState.RUNNING),
        ("DEACTIVATING", GroupState.ENDING),
        ("STOPPING", GroupState.ENDING),
    ):
        ecs.set_status(status)
        assert [found.state for found in adapter.list()] == [state], status
    ecs.set_status("DEPROVISIONING")
    assert adapter.list() == []
    with pytest.raises(UnknownGroupError):
        adapter.stop(group.group_id)


def test_a_task_whose_machine_is_taken_back_is_ending(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    adapter.start(StartRequest())
    (task,) = ecs.tasks.values()
    task.desired_status = "STOPPED"
    assert [found.state for found in adapter.list()] == [GroupState.ENDING]


def test_stopping_and_closing_stop_tasks(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    groups = [adapter.start(StartRequest()) for _ in range(3)]
    adapter.stop(groups[0].group_id)
    assert {group.group_id for group in adapter.list()} == {group.group_id for group in groups[1:]}
    with pytest.raises(UnknownGroupError):
        adapter.stop(groups[0].group_id)
    adapter.close()
    assert {task.last_status for task in ecs.tasks.values()} == {"STOPPED"}
    with pytest.raises(NoCapacityError, match="stopping"):
        adapter.start(StartRequest())


def test_an_adapter_that_starts_anew_finds_its_tasks_and_no_others(ecs: EcsStandIn) -> None:
    group = adapter_of(ecs, "-pwc=linux").start(StartRequest({}, "r1"))
    adapter_of(ecs, "--port=9999").start(StartRequest({}, "r1"))
    assert len(ecs.tasks) == 2
    (found,) = adapter_of(ecs, "-pwc=linux").list()
    assert (found.group_id, found.worker_ids, found.request_id) == (group.group_id, group.worker_ids, "r1")
    assert found.capabilities == {"linux": -1}


def test_a_request_whose_answer_is_lost_starts_one_task(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    ecs.instead["RunTask"] = [LOST]
    group = adapter.start(StartRequest({}, "r1"))
    assert [action for action, _ in ecs.calls].count("RunTask") == 2
    # The adapter is killed and asked again.
    assert adapter_of(ecs).start(StartRequest({}, "r1")) == group
    assert len(ecs.tasks) == 1
    assert adapter.start(StartRequest({}, "r2")).group_id != group.group_id


def test_a_repeated_request_does_not_pretend_that_an_ended_task_lives(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    adapter.start(StartRequest({}, "r1"))
    (arn,) = ecs.tasks
    ecs.end(arn, "CannotPullContainerError")
    answer = {"tasks": [{"taskArn": arn, "lastStatus": "STOPPED", "stoppedReason": "CannotPullContainerError"}]}
    ecs.instead["RunTask"] = [(200, answer)]
    with pytest.raises(ProvisioningError, match="has ended: CannotPullContainerError"):
        adapter.start(StartRequest({}, "r1"))
    assert adapter.list() == []


def failed(reason: str) -> tuple[int, dict[str, object]]:
    return 200, {"tasks": [], "failures": [{"arn": "arn:aws:ecs:x", "reason": reason, "detail": "so it is"}]}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failed("RESOURCE:MEMORY"), NoCapacityError),
        (failed("RESOURCE:ENI"), NoCapacityError),
        (failed("AGENT"), NoCapacityError),
        (failed("LOCATION"), ProvisioningError),
        ((200, {"tasks": [], "failures": []}), ProvisioningError),
        (error("ClientException", "Capacity is unavailable at this time."), NoCapacityError),
        (error("ClientException", "You've reached the limit on the number of tasks you can run"), NoCapacityError),
        (error("InvalidParameterException", "No Container Instances were found in your cluster."), NoCapacityError),
        (error("LimitExceededException"), NoCapacityError),
        (error("ClientException", "TaskDefinition is inactive"), MalformedRequestError),
        (error("ClientException", "Something else"), ProvisioningError),
        (error("AccessDeniedException", "not authorized to perform: ecs:RunTask"), MalformedRequestError),
        (error("PlatformUnknownException"), MalformedRequestError),
        (error("ThrottlingException", "Rate exceeded"), ProvisioningError),
        (error("ServerException", "unavailable", 500), ProvisioningError),
    ],
    ids=str,
)
def test_refusals_say_whether_to_come_back(
    ecs: EcsStandIn, answer: tuple[int, dict[str, object]], kind: type[AdapterError]
) -> None:
    adapter = adapter_of(ecs)
    ecs.instead["RunTask"] = [answer] * 10
    with pytest.raises(AdapterError) as refused:
        adapter.start(StartRequest())
    assert type(refused.value) is kind
    ecs.instead.clear()
    assert adapter.list() == []
    adapter.start(StartRequest())
    assert len(adapter.list()) == 1, "a refusal leaves nothing behind that counts"


def test_throttling_that_passes_is_not_noticed(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs, "--max-workers=1")
    ecs.instead["RunTask"] = [error("ThrottlingException", "Rate exceeded")]
    ecs.instead["ListTasks"] = [error("ThrottlingException", "Rate exceeded")]
    adapter.start(StartRequest())
    assert len(adapter.list()) == 1


def test_a_task_that_ends_by_itself_is_noticed_once_and_makes_room(
    ecs: EcsStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = adapter_of(ecs, "--max-workers=2", "--workers-per-task=2")
    adapter.start(StartRequest())
    with pytest.raises(NoCapacityError, match="2 workers"):
        adapter.start(StartRequest())
    (arn,) = ecs.tasks
    ecs.end(arn, "CannotPullContainerError: no such image")
    with caplog.at_level(logging.INFO):
        assert adapter.list() == []
        assert adapter.list() == []
    assert [record.message for record in caplog.records if "has ended" in record.message] == [
        f"task {arn} has ended: CannotPullContainerError: no such image"
    ]
    adapter.start(StartRequest())


def test_as_many_at_the_same_time_as_there_may_be(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs, "--max-workers=8")

    def start(number: int) -> str:
        try:
            return adapter.start(StartRequest({}, f"r{number}")).group_id
        except NoCapacityError:
            return ""

    with ThreadPoolExecutor(10) as threads:
        started = [group_id for group_id in threads.map(start, range(10)) if group_id]
    assert len(set(started)) == len(started) == len(ecs.tasks) == 8


def test_a_task_that_is_not_listed_yet_is_counted(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs, "--max-workers=1")
    group = adapter.start(StartRequest())
    ecs.instead["ListTasks"] = [(200, {"taskArns": []})] * 4
    assert [found.group_id for found in adapter.list()] == [group.group_id]
    with pytest.raises(NoCapacityError):
        adapter.start(StartRequest())
    # From here on it is listed, and what the list says is believed.
    assert [found.group_id for found in adapter.list()] == [group.group_id]
    ecs.instead["ListTasks"] = [(200, {"taskArns": []})] * 2
    assert adapter.list() == []


def test_more_tasks_than_ecs_lists_or_describes_at_once(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    groups = {adapter.start(StartRequest()).group_id for _ in range(120)}
    assert {group.group_id for group in adapter.list()} == groups


def test_other_capabilities_come_with_other_task_definitions(ecs: EcsStandIn) -> None:
    ecs.define("workers-gpu", "gpu-worker")
    ecs.define("workers-big", "worker")
    adapter = adapter_of(
        ecs, "-pwc=linux", "--capability-task-definitions=gpu=workers-gpu cuda=workers-gpu big=workers-big"
    )
    group = adapter.start(StartRequest({"gpu": -1, "cuda": -1, "linux": -1}))
    assert group.capabilities == {"linux": -1, "gpu": -1, "cuda": -1}
    words = next(words for action, words in ecs.calls if action == "RunTask")
    assert words["taskDefinition"] == "workers-gpu"
    (override,) = words["overrides"]["containerOverrides"]
    assert override["name"] == "gpu-worker"
    assert "--per-worker-capabilities=linux,gpu,cuda" in override["command"]
    with pytest.raises(MalformedRequestError, match="does not offer fpga"):
        adapter.start(StartRequest({"fpga": -1}))
    with pytest.raises(MalformedRequestError, match="no single template has all of gpu, big"):
        adapter.start(StartRequest({"gpu": -1, "big": -1}))


def test_a_task_that_somebody_else_started_in_our_name_can_be_stopped(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    adapter.start(StartRequest())
    (task,) = ecs.tasks.values()
    task.overrides = {}
    (group,) = adapter.list()
    adapter.stop(group.group_id)
    assert adapter.list() == []


def test_what_cannot_work_is_one_clear_error_at_the_start(ecs: EcsStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError, match="task definition 'nothing' cannot be read"):
        adapter_of(ecs, "--task-definition=nothing")
    with pytest.raises(ServiceError, match=r"the tasks of cluster 'nowhere' cannot be listed: .*[Cc]luster"):
        adapter_of(ecs, "--cluster=nowhere")
    with pytest.raises(ServiceError, match="cannot be read: Could not connect"):
        adapter_of(ecs, f"--endpoint-url=http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ServiceError, match="--endpoint-url"):
        adapter_of(ecs, "--endpoint-url=nonsense")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ServiceError, match="credentials"):
        adapter_of(ecs)


# --- with a scheduler, and processes in the place of containers


class Elastic:
    """A scheduler and an ECS adapter that know each other."""

    def __init__(self, deployment: Deployment, ecs: EcsWithProcesses) -> None:
        self.deployment = deployment
        self.ecs = ecs
        # At a port of the system's choice an adapter that is started again would not find its tasks.
        scheduler_port, port = free_ports(2)
        self.address = f"tcp://127.0.0.1:{scheduler_port}"
        self.adapter = self.start_adapter(port)
        self.url = url_of(self.adapter)
        self.scheduler = scheduler_with_adapter(deployment, self.address, self.url)
        self.client = deployment.client(self.scheduler)

    def start_adapter(self, port: int) -> Service:
        flags = [*adapter_flags(self.ecs), f"--port={port}", "--max-workers=4"]
        return self.deployment.start("scaler_adapters.ecs", self.address, *flags)

    def running(self) -> list[str]:
        return [arn for arn, process in [*self.ecs.processes.items()] if process.poll() is None]


@pytest.fixture
def elastic(credentials: None, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    stand_in = EcsWithProcesses(tmp_path_factory.mktemp("ecs"))
    try:
        yield Elastic(deployment, stand_in)
    finally:
        # The adapter first: it stops its tasks.
        deployment.close()
        stand_in.close()


@pytest.mark.timeout(240)
def test_tasks_come_with_work_and_go_without(elastic: Elastic) -> None:
    assert not elastic.ecs.tasks
    futures = [elastic.client.submit(sleep_and_return, 0.05, number) for number in range(400)]
    with work_to_spare(elastic.deployment, elastic.scheduler):
        wait_for("as many workers as there may be", lambda: len(elastic.running()) == 4, 60)
    assert [future.result(timeout=60) for future in futures] == list(range(400))
    wait_for("no groups left", lambda: not groups_at(elastic.url), 40)
    wait_for("no processes left", lambda: not elastic.running(), 20)
    assert {task.last_status for task in elastic.ecs.tasks.values()} == {"STOPPED"}


@pytest.mark.timeout(240)
def test_adapter_and_containers_may_die_in_the_middle(elastic: Elastic) -> None:
    futures = [elastic.client.submit(sleep_and_return, 0.1, number) for number in range(300)]
    with work_to_spare(elastic.deployment, elastic.scheduler):
        wait_for("as many workers as there may be", lambda: len(elastic.running()) == 4, 60)
        port = elastic.adapter.addresses["webhook"].port or 0
        elastic.adapter.kill()
        before = set(groups_of_tasks(elastic.ecs))
        elastic.start_adapter(port)
        assert set(groups_at(elastic.url)) == before, "it finds what it had started"
    os.kill(elastic.ecs.processes[elastic.running()[0]].pid, signal.SIGKILL)
    assert [future.result(timeout=90) for future in futures] == list(range(300))
    # A scheduler that has asked in vain while the adapter was away asks again after up to a minute.
    wait_for("no groups left", lambda: not groups_at(elastic.url), 100)
    wait_for("no processes left", lambda: not elastic.running(), 20)


def groups_of_tasks(ecs: EcsStandIn) -> Iterator[str]:
    for task in ecs.tasks.values():
        if task.last_status != "STOPPED":
            (override,) = task.overrides["containerOverrides"]
            (name,) = (word for word in override["command"] if word.startswith("--worker-names="))
            yield name.removeprefix("--worker-names=").rpartition("-")[0]
