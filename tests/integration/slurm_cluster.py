"""A real Slurm of two nodes on this machine, as ordinary processes: munged, slurmctld, and a slurmd for each node."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from scaler_protocol.testing.free_ports import free_ports

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "runuser")
NODES = ("n1", "n2")
START_S = 40.0

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=2
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port_n1} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port_n2} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""


def missing() -> str:
    """Why Slurm cannot be run here; empty where it can."""
    absent = [command for command in COMMANDS if shutil.which(command) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root here"


class SlurmCluster:
    """Started by the constructor; `close` leaves nothing running."""

    def __init__(self, folder: Path, gpus: int = 0) -> None:
        """`gpus`: how many each node says that it has, up to 2, which there are not."""
        self.folder = folder
        controller_port, port_n1, port_n2 = free_ports(3)
        self._munge = folder / "munge"
        for path in (folder / "state", self._munge, *(folder / f"spool-{node}" for node in NODES)):
            path.mkdir()
        self.configuration = folder / "slurm.conf"
        text = CONFIGURATION.format(folder=folder, controller_port=controller_port, port_n1=port_n1, port_n2=port_n2)
        if gpus:
            # Slurm counts files, whatever they are.
            lines = [f"NodeName={','.join(NODES)} Name=gpu File={file}\n" for file in ("/dev/null", "/dev/zero")[:gpus]]
            (folder / "gres.conf").write_text("AutoDetect=off\n" + "".join(lines))
            text = text.replace(" State=UNKNOWN", f" RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN") + "GresTypes=gpu\n"
        self.configuration.write_text(text)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._start_munge()
            self.start_controller()
            for node in NODES:
                self.start_node(node)
            self._wait_idle()
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> Mapping[str, str]:
        """What commands need to find this cluster."""
        return {"SLURM_CONF": str(self.configuration)}

    def command(self, *words: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30, check=True).stdout

    def start_controller(self) -> None:
        self._start("slurmctld", ["slurmctld", "-D", "-f", str(self.configuration)])

    def start_node(self, node: str) -> None:
        self._start(node, ["slurmd", "-D", "-f", str(self.configuration), "-N", node])

    def kill(self, daemon: str) -> None:
        """kill -9 of one daemon: `slurmctld` or a node. What a node's daemon had started stays for Slurm to deal with."""
        process = self._daemons.pop(daemon)
        process.kill()
        process.wait(10)

    def kill_node(self, node: str) -> None:
        """The whole machine: its daemon and everything that its jobs run."""
        self.kill(node)
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            # Again and again: what was just about to be started comes too.
            for process in self._processes_of(node):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.1)  # sleeps: what was just about to be started is found at the next look

    def _processes_of(self, node: str) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SLURM_CONF") == str(self.configuration)
                if ours and environment.get("SLURMD_NODENAME") == node:
                    found.append(process)
        return found

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self.command("scancel", "--user=root", "--signal=KILL", "--full")
            self.command("scancel", "--user=root")
        for node in NODES:
            for process in self._processes_of(node):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        for name in [*self._daemons]:
            process = self._daemons.pop(name)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    # --- inside

    def _start_munge(self) -> None:
        munge = pwd.getpwnam("munge")
        key = self._munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (self._munge, key):
            os.chown(path, munge.pw_uid, munge.pw_gid)
        # Everybody on the way down may enter: the daemons run as different users.
        for path in (self.folder, *self.folder.parents):
            with contextlib.suppress(PermissionError):
                path.chmod(path.stat().st_mode | 0o111)
        self._munge.chmod(0o755)
        files = [
            f"--{name}={self._munge / name}" for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")
        ]
        files[0] = f"--key-file={key}"
        self._start("munged", ["runuser", "-u", "munge", "--", "munged", "--foreground", "--force", *files])
        deadline = time.monotonic() + START_S
        while not (self._munge / "socket").exists():
            self._still_time(deadline, "munged")

    def _start(self, name: str, words: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                words,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _wait_idle(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):
                states = self.command("sinfo", "--noheader", "--Node", "--format=%T").split()
                if states == ["idle"] * len(NODES):
                    return
            self._still_time(deadline, "slurmctld")

    def _still_time(self, deadline: float, name: str) -> None:
        if time.monotonic() >= deadline or self._daemons[name].poll() is not None:
            logs = "\n".join(
                f"{path.name}: {path.read_text(errors='replace')[-2_000:]}"
                for path in (*self.folder.glob("*.out"), *self.folder.glob("*.log"))
            )
            raise AssertionError(f"{name} does not come up\n{logs}")
        time.sleep(0.1)  # sleeps: between two looks of a loop with a deadline
