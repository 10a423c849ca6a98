"""One task of a Slurm job becomes a rank: what srun says of it, in the words of torch's elastic launcher.

Run as a program, this file is what the job's `srun` starts: `python -m poise.slurm_task train config=…`.
"""

import os
import platform
import re
import runpy
import sys
from collections.abc import Mapping

from poise import cli
from poise.errors import UserError
from poise.launching import on_loopback, port
from poise.stopping import AGAIN, CODES, hold_requests

NEEDED = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID")


def rank_environment(task: Mapping[str, str]) -> dict[str, str]:
    """What has to stand in a rank's environment besides.

    Args:
        task: the environment that srun gives to one of its tasks.

    Raises:
        UserError: this is no task of srun's, nodes have different numbers of them, or nobody said where they meet, or
            at what is no port.
    """
    if missing := [name for name in NEEDED if name not in task]:
        raise UserError(f"{missing[0]} is not set: srun starts this program, in a job that poise submit makes.")
    counts = _tasks_per_node(task["SLURM_STEP_TASKS_PER_NODE"])
    if len(set(counts)) > 1:
        raise UserError(
            f"the job has {', '.join(map(str, counts))} tasks on its nodes: as many on each (--ntasks-per-node), "
            "one a rank."
        )
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not task.get(name)]:
        raise UserError(f"{missing[0]} is not set: ranks meet at a machine and a port, which poise submit chooses.")
    port(task["MASTER_PORT"])
    own = {
        "RANK": task["SLURM_PROCID"],
        "LOCAL_RANK": task["SLURM_LOCALID"],
        "GROUP_RANK": task["SLURM_NODEID"],
        "ROLE_RANK": task["SLURM_PROCID"],
        "WORLD_SIZE": task["SLURM_NTASKS"],
        "LOCAL_WORLD_SIZE": str(counts[0]),
        "GROUP_WORLD_SIZE": str(len(counts)),
        "ROLE_WORLD_SIZE": task["SLURM_NTASKS"],
        "TORCHELASTIC_RUN_ID": task["SLURM_JOB_ID"],
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_RESTART_COUNT": task.get("SLURM_RESTART_COUNT", "0"),
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }
    cores = int(task.get("SLURM_CPUS_PER_TASK") or max(1, len(os.sched_getaffinity(0)) // counts[0]))
    defaults = {"OMP_NUM_THREADS": str(cores), **on_loopback(task["MASTER_ADDR"])}
    return {**{name: value for name, value in defaults.items() if name not in task}, **own}


def _tasks_per_node(text: str) -> list[int]:
    """`2(x3),1` is 2, 2, 2, 1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(count) for count, nodes in found for _ in range(int(nodes or 1))]


def main(arguments: list[str]) -> int:
    """Run `poise` as a rank, which ends this process; returns an exit code where it cannot be one."""
    return cli.attempt(_run, arguments)


def _run(words: list[str]) -> int:
    os.environ.update(rank_environment(os.environ))
    for word in words:
        path = word.removeprefix("config=")
        if path != word and not os.path.isfile(path):
            raise UserError(
                f"{path} is not there on {platform.node()}: run_dir has to be on a file system that all nodes share."
            )
    sys.argv[1:] = words
    try:
        runpy.run_module("poise", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not _is_asked_for(end.code):
            raise
    return 0


def _is_asked_for(code: object) -> bool:
    """Whether a rank has stopped as it was asked to: to srun a failure, upon which it kills those still at it."""
    return code == AGAIN or (code in CODES.values() and os.environ["RANK"] != "0")


if __name__ == "__main__":
    hold_requests()
    sys.exit(main(sys.argv[1:]))
