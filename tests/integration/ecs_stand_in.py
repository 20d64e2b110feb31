"""A stand-in for AWS ECS: `moto`'s API server, a proxy before it that can fail, and real processes for the tasks.

What moto answers is moto's. What it does not do and ECS does is added here: the same client token starts one task
(`RunTask`), lists come in pages, a task that was asked to stop goes on until its processes have ended, and the command of a
task runs. Containers, images, networks and machines exist in name only.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

# moto and boto3 are imported where they are used: that takes seconds, and every process of a spread run imports this module.

REGION = "eu-west-1"
ACCOUNT = "123456789012"
"""Everybody's in moto."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": "stand-in"}
CLUSTER = "scaler"
PAGE = 100
LOOK_SECONDS = 0.05

Json = dict[str, Any]


@functools.cache
def _session() -> Any:
    """One for all: it reads the large descriptions of AWS's services only once."""
    import boto3

    return boto3.session.Session()


def error(code: str, message: str = "", status: int = 400) -> tuple[int, Json]:
    """An error as ECS sends it: put it into `EcsStandIn.instead`."""
    return status, {"__type": code, "message": message}


LOST: tuple[int, Json] = (0, {})
"""For `EcsStandIn.instead`: the call is performed, and its answer never arrives."""


class EcsStandIn:
    """Started by the constructor; `close` leaves nothing running."""

    def __init__(self) -> None:
        from moto import settings
        from moto.ecs.models import ecs_backends
        from moto.moto_api import state_manager
        from moto.server import ThreadedMotoServer

        self._backends = ecs_backends
        self._states = state_manager
        self.calls: list[tuple[str, Json]] = []
        """Every call that came: its action and its words."""
        self.instead: defaultdict[str, list[tuple[int, Json]]] = defaultdict(list)
        """By action: what the next calls are answered instead of what moto would say."""
        self._by_token: dict[str, Json] = {}
        # Thousands of machine images, which moto makes anew for every test. No test has use for one.
        self._no_images = mock.patch.object(settings, "ec2_load_default_amis", return_value=False)
        self._no_images.start()
        # Left to itself moto's tasks walk through their life at every look.
        self._states.set_transition("ecs::task", {"progression": "manual", "times": 1_000_000_000})
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self._moto_url = f"http://{host}:{port}"
        self._http = httpx.Client(base_url=self._moto_url, timeout=30)
        self._proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._serving = threading.Thread(target=self._proxy.serve_forever, args=(LOOK_SECONDS,), name="ecs-proxy")
        self._serving.start()
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        ec2 = self._client("ec2")
        self.subnet: str = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        self.security_group: str = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        self._client("ecs").create_cluster(clusterName=CLUSTER)
        self.define("workers", "worker")

    def define(self, family: str, container: str) -> None:
        """Register a task definition whose second container is the one that matters."""
        containers = [
            {"name": "logs", "image": "logs", "essential": False, "memory": 64},
            {"name": container, "image": "scaler", "essential": True, "memory": 512},
        ]
        words: Json = {"family": family, "networkMode": "awsvpc", "cpu": "256", "memory": "1024"}
        self._client("ecs").register_task_definition(
            requiresCompatibilities=["FARGATE"], containerDefinitions=containers, **words
        )

    @property
    def tasks(self) -> Mapping[str, Any]:
        """Moto's own tasks by ARN."""
        found: dict[str, Any] = self._backends[ACCOUNT][REGION].tasks.get(CLUSTER, {})
        return dict(found)

    def set_status(self, status: str) -> None:
        """Every task that has not stopped is this far."""
        for task in self.tasks.values():
            if task.last_status != "STOPPED":
                task.last_status = status

    def end(self, arn: str, reason: str) -> None:
        """A task stops by itself."""
        task = self.tasks[arn]
        task.last_status = task.desired_status = "STOPPED"
        task.stopped_reason = reason

    def answer(self, action: str, words: Json, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """What a call gets; status 0 for no answer at all."""
        self.calls.append((action, words))
        instead = self.instead[action].pop(0) if self.instead[action] else None
        if instead is not None and instead is not LOST:
            return instead[0], json.dumps(instead[1]).encode()
        status, answered = self._perform(action, words, headers, body)
        return (0, b"") if instead is LOST else (status, answered)

    def _perform(self, action: str, words: Json, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        token = words.get("clientToken", "")
        if action == "RunTask" and token in self._by_token:
            return 200, json.dumps(self._by_token[token]).encode()
        before = {arn: task.last_status for arn, task in self.tasks.items()}
        answer = self._http.post("/", content=body, headers=dict(headers))
        if action == "RunTask" and token and answer.status_code == 200:
            self._by_token[token] = answer.json()
        if action == "ListTasks" and answer.status_code == 200:
            return 200, json.dumps(_page(answer.json()["taskArns"], words.get("nextToken"))).encode()
        if action == "StopTask" and answer.status_code == 200:
            self.on_stop(words["task"], before[words["task"]])
        return answer.status_code, answer.content

    def on_stop(self, arn: str, status: str) -> None:
        """A task was asked to stop; moto has stopped it at once."""

    def _client(self, service: str) -> Any:
        return _session().client(
            service,
            region_name=REGION,
            endpoint_url=self._moto_url,
            aws_access_key_id="stand-in",
            aws_secret_access_key="stand-in",
        )

    def close(self) -> None:
        self._proxy.shutdown()
        self._serving.join()
        self._proxy.server_close()
        self._http.post("/moto-api/reset")
        self._http.close()
        self._moto.stop()
        self._states.unset_transition("ecs::task")
        self._no_images.stop()


class EcsWithProcesses(EcsStandIn):
    """Runs the command of each task as a process on this machine: the stand-in for its container."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """By the ARN of their task; ended ones too."""
        self._closing = threading.Event()
        super().__init__()
        self._running = threading.Thread(target=self._run, name="ecs-machines")
        self._running.start()

    def on_stop(self, arn: str, status: str) -> None:
        # Its process gets SIGTERM, and the task is over when that has ended.
        self.tasks[arn].last_status = status

    def _run(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            for arn, task in self.tasks.items():
                process = self.processes.get(arn)
                if task.last_status == "STOPPED":
                    continue
                if process is None and task.desired_status == "RUNNING":
                    self.processes[arn] = self._start(arn, task.overrides["containerOverrides"][0])
                elif process is None or process.poll() is not None:
                    self.end(arn, task.stopped_reason or "Essential container in task exited")
                elif task.desired_status == "STOPPED":
                    process.terminate()

    def _start(self, arn: str, override: Json) -> subprocess.Popen[bytes]:
        environment = {pair["name"]: pair["value"] for pair in override["environment"]}
        path = {"PYTHONPATH": str(Path(__file__).parents[2])}
        with (self._folder / f"{arn.rpartition('/')[2]}.out").open("wb") as output:
            return subprocess.Popen(
                override["command"], env={**os.environ, **path, **environment}, stdout=output, stderr=output
            )

    def close(self) -> None:
        self._closing.set()
        self._running.join()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait(10)
        super().close()


def adapter_flags(ecs: EcsStandIn) -> list[str]:
    """What an adapter has to be told to use this stand-in."""
    return [
        f"--endpoint-url={ecs.url}",
        f"--region={REGION}",
        f"--cluster={CLUSTER}",
        "--task-definition=workers",
        f"--subnets={ecs.subnet}",
        f"--security-groups={ecs.security_group}",
        f"--python={sys.executable}",
    ]


def _page(arns: list[str], token: str | None) -> Json:
    first = int(token or 0)
    more = {"nextToken": str(first + PAGE)} if first + PAGE < len(arns) else {}
    return {"taskArns": arns[first : first + PAGE], **more}


def _handler_of(ecs: EcsStandIn) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() in ("x-amz-target", "content-type", "authorization", "x-amz-date")
            }
            status, answer = ecs.answer(action, json.loads(body or b"{}"), headers, body)
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
