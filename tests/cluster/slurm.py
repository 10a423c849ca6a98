"""A cluster of several nodes on this machine: Debian's own Slurm and munge, in a folder of their own."""

import contextlib
import getpass
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from cluster.machine import Machine

SUBMIT = Path(__file__).parents[2] / "launch" / "slurm.sh"
NODES = ("n1", "n2", "n3")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo", "squeue", "scancel")
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # where Debian has the daemons
ACTIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SIGNALING", "STOPPED", "SUSPENDED")
UP = ("IDLE", "MIXED", "ALLOCATED")
PORTS = range(30_000, 32_768)  # ranks of jobs meet below, and above are the kernel's
POLL = 0.1
TAIL = 4_000  # characters of a log that an error shows

# cred_expire is also how long a requeued job waits: two minutes where nothing is said.
# config_overrides: a node has the cores written here, however many the machine has.
CONFIG = """\
ClusterName=poise
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmdTimeout={node_timeout}
MessageTimeout=5
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=1000 State=UNKNOWN\n"
NO_CGROUPS = "CgroupPlugin=cgroup/v1\n"  # the one that asks nothing of the machine as long as nobody uses it


def why_not() -> str | None:
    """Why there can be no cluster here; None where there can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    return f"there is no {missing[0]} here (on Debian: slurm-wlm and munge)" if missing else None


class Cluster:
    """A running cluster; leaving the context ends it, with all its jobs.

    Args:
        node_timeout: seconds after which Slurm takes a node that does not answer for lost.

    Attributes:
        environment: in which Slurm's commands, and poise, speak to this cluster.
    """

    def __init__(self, node_timeout: int = 10) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="poise-slurm-"))
        self.environment = os.environ | {
            "PATH": SEARCHED,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",  # n1 is no name that resolves
            "POISE_SHAPE_CHECKS": "0",  # seconds of each rank's start
        }
        self.nodes: dict[str, Machine] = {}
        self._node_timeout = node_timeout
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(shutil.rmtree, self.folder)
            self._cleanup = cleanup
            self._configure()
            self._start_munge()
            self._start("slurmctld", "-D", "-i")
            for name in NODES:
                self._start_node(name)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Have a node die, with all that runs there; in the end it comes back."""
        self.nodes[name].kill()
        try:
            yield
        finally:
            self._start_node(name)

    def _start_node(self, name: str) -> None:
        """Have a node join, for the first time or again, and wait until jobs can run there."""
        before = self._node(name)["SlurmdStartTime"]
        self.nodes[name] = self._start("slurmd", "-D", "-N", name)
        self.until(f"node {name} is there", lambda: self._node(name)["SlurmdStartTime"] != before)
        self.until(f"node {name} is up", lambda: self._node(name)["State"] in UP)

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """What a command says; one that fails is an error."""
        done = subprocess.run(words, env=self.environment, cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *words: str, cwd: Path) -> str:
        """The number of the job that `launch/slurm.sh` makes of a command line."""
        said = self.run(str(SUBMIT), *words, cwd=cwd)
        number = re.match(r"Job: +(\d+)", said)
        assert number, said
        return number[1]

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job, such as JobState, Restarts, ExitCode."""
        return self._shown("job", number)

    def ended(self, number: str, timeout: float = 300.0) -> str:
        """How a job ended, such as COMPLETED or FAILED, once it has."""
        self.until(f"job {number} ends", lambda: self.job(number)["JobState"] not in ACTIVE, timeout)
        return self.job(number)["JobState"]

    def until(self, what: str, true: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait for something to come true."""
        deadline = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{self._logs()}"
            time.sleep(POLL)

    def _configure(self) -> None:
        self.folder.chmod(0o711)  # munged wants a socket that others reach
        for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        host, ports = socket.gethostname().partition(".")[0], _free_ports(1 + len(NODES))
        nodes = [NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, ports[1:], strict=True)]
        config = CONFIG.format(
            folder=self.folder, host=host, ports=ports, user=getpass.getuser(), node_timeout=self._node_timeout
        )
        (self.folder / "slurm.conf").write_text("".join([config, *nodes]))
        (self.folder / "cgroup.conf").write_text(NO_CGROUPS)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        options = [f"--{option}={folder}/{file}" for option, file in files.items()]
        self._start("munged", "--foreground", "--force", *options)
        self.until("munged listens", (folder / "socket").exists)

    def _start(self, *command: str) -> Machine:
        machine = Machine(command, self.environment, self.folder / f"{command[0]}.log")
        self._cleanup.callback(machine.kill)
        return machine

    def _node(self, name: str) -> dict[str, str]:
        return self._shown("node", name)

    def _shown(self, what: str, name: str) -> dict[str, str]:
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "show", what, "--oneliner", name)))

    def _logs(self) -> str:
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text(errors='replace')[-TAIL:]}" for file in files)


def _free_ports(count: int) -> list[int]:
    """Of those that the kernel gives to no connection, which would come and go in between."""
    free = (port for port in random.sample(PORTS, len(PORTS)) if _is_free(port))
    return list(islice(free, count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
