import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from poise.errors import UserError
from poise.slurm_task import main, rank_environment

TASK = {  # what srun says to the last of 2 × 3 tasks
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "3(x2)",
    "SLURM_JOB_ID": "4711",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "14711",
}


def test_a_task_is_a_rank() -> None:
    own = rank_environment(TASK | {"SLURM_CPUS_PER_TASK": "8"})
    assert own == {
        "RANK": "5",
        "LOCAL_RANK": "2",
        "GROUP_RANK": "1",
        "ROLE_RANK": "5",
        "WORLD_SIZE": "6",
        "LOCAL_WORLD_SIZE": "3",
        "GROUP_WORLD_SIZE": "2",
        "ROLE_WORLD_SIZE": "6",
        "TORCHELASTIC_RUN_ID": "4711",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "OMP_NUM_THREADS": "8",
    }


def test_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12))
    assert rank_environment(TASK)["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in rank_environment(TASK | {"OMP_NUM_THREADS": "1"})
    assert "GLOO_SOCKET_IFNAME" not in rank_environment(TASK)
    here = TASK | {"MASTER_ADDR": "127.0.0.1"}
    assert rank_environment(here)["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in rank_environment(here | {"GLOO_SOCKET_IFNAME": "eth0"})


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"SLURM_PROCID": None},
            r"SLURM_PROCID is not set: srun starts this program, in a job that poise submit makes",
        ),
        ({"MASTER_PORT": "0"}, r"MASTER_PORT=0 is no port, which are 1 to 65535\."),
        ({"MASTER_ADDR": None}, r"MASTER_ADDR is not set: ranks meet at a machine and a port"),
        ({"MASTER_PORT": ""}, r"MASTER_PORT is not set"),
        ({"SLURM_STEP_TASKS_PER_NODE": "3(x2),1"}, r"the job has 3, 3, 1 tasks on its nodes: as many on each"),
    ],
)
def test_what_makes_no_rank(changes: dict[str, str | None], line: str) -> None:
    task = {name: value for name, value in (TASK | changes).items() if value is not None}
    with pytest.raises(UserError, match=line):
        rank_environment(task)


def test_a_directory_that_is_not_shared_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ, **TASK})
    assert main(["train", f"config={tmp_path}/config.yaml"]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}/config.yaml is not there on {platform.node()}: run_dir has to be on a file system that all nodes "
        "share.\n"
    )


def test_it_runs_poise(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit('the working directory comes last')")
    command = [sys.executable, "-m", "poise.slurm_task", "train", "recipe=trads"]
    done = subprocess.run(command, env={**os.environ, **TASK}, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'trades'?" in done.stderr
