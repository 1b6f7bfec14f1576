"""A real SLURM of one machine, from Debian's packages, that the tests start and stop: munged, slurmctld and slurmds.

Everything of it lies in a temporary folder and listens on ports of its own; a cluster that this machine belongs to is
not touched. It needs root, since munged and slurmd do.

A module of tests has it by `pytest_plugins = ["slurm_cluster"]`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

CONFIGURATION = """
ClusterName=yardtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
MinJobAge=3600
MaxJobCount={most_jobs}
KillWait=30
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=1,batch_sched_delay=0,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs=8 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs=8 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=one,two MaxTime=INFINITE State=UP PriorityTier=2
"""


def wait_until(true: Any, seconds: float = 60.0) -> Any:
    """What `true` returns as soon as that is true; fails when it never is."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)
    return value


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """The daemons. `two` is a second node on the same machine; Debian's slurmd allows that (`slurmd -N`)."""

    until = staticmethod(wait_until)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self.ports = free_ports(3)
        self.configuration = folder / "slurm.conf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def configure(self, most_jobs: int = 10_000) -> None:
        port, one, two = self.ports
        self.configuration.write_text(
            CONFIGURATION.format(host=self.host, folder=self.folder, port=port, one=one, two=two, most_jobs=most_jobs)
        )
        (self.folder / "gres.conf").write_text(f"NodeName=one,two Name=gpu File={self.folder}/gpu[0-1]\n")

    def start(self) -> None:
        (self.folder / "state").mkdir()
        for number in (0, 1):  # pretend GPUs: devices that can be opened, and nothing more
            os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self.configure()
        names = ("key-file", "socket", "pid-file", "log-file", "seed-file")
        files = [f"--{name}={self.folder}/munge.{name.partition('-')[0]}" for name in names]
        self._run("munged", "--foreground", "--force", *files)
        wait_until((self.folder / "munge.socket").exists)
        self.start_controller()
        for node in ("one", "two"):
            self.start_node(node)
        wait_until(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D", "-p", "main").strip() == "2")

    def start_controller(self, *, forgetful: bool = False) -> None:
        """A forgetful one starts with an empty queue and knows of no job any more."""
        self._run("slurmctld", "-D", *(["-c"] if forgetful else []), "-f", str(self.configuration))
        wait_until(lambda: "UP" in self.ask("scontrol", "ping", check=False))

    def stop_controller(self) -> None:
        self._end("slurmctld", signal.SIGTERM)

    def start_node(self, name: str) -> None:
        self._run("slurmd", "-D", "-f", str(self.configuration), "-N", name, key=name)

    def kill_node(self, name: str) -> None:
        """The machine is gone: slurmd and what it started are killed where they stand."""
        self._end(name, signal.SIGKILL)
        for step in Path("/proc").glob("[0-9]*/cmdline"):
            if step.read_bytes().startswith(b"slurmstepd: ") and self._is_ours(step.parent):
                _kill_tree(int(step.parent.name))

    def _is_ours(self, process: Path) -> bool:
        return os.fsencode(str(self.configuration)) in (process / "environ").read_bytes()

    def ask(self, *command: str, check: bool = True) -> str:
        """The output of one of SLURM's programs."""
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert answer.returncode == 0 or not check, answer.stderr
        return answer.stdout

    def queue(self) -> list[str]:
        """The jobs that have not ended, as `12 RUNNING` and `13_4 PENDING`."""
        return self.ask("squeue", "-h", "-r", "-o", "%i %T").splitlines()

    def clear(self) -> None:
        """Empty the queue and bring every part back into service, for the next test."""
        self.ask("scancel", "--user=root")
        self.ask("scancel", "--full", "--signal=KILL", "--user=root", check=False)
        wait_until(lambda: not self.queue())
        wait_until(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D", "-p", "main").strip() == "2")

    def stop(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name, signal.SIGTERM)

    def _run(self, program: str, *arguments: str, key: str = "") -> None:
        variables = {**os.environ, "SLURM_CONF": str(self.configuration)}
        variables = {n: v for n, v in variables.items() if n == "SLURM_CONF" or not n.startswith("SLURM_")}
        with open(self.folder / f"{key or program}.out", "ab") as out:
            self._processes[key or program] = subprocess.Popen(
                [program, *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=variables
            )

    def _end(self, name: str, number: int) -> None:
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _kill_tree(pid: int) -> None:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            _kill_tree(int(child))
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Started once for all tests."""
    if not all(map(shutil.which, PROGRAMS)):
        pytest.skip("SLURM is not installed")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons need root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: munged's socket must fit into 108 bytes
    folder.chmod(0o755)
    made = Cluster(folder)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(made.configuration)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)
        shutil.rmtree(folder, ignore_errors=True)
