import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from poise import fit
from poise.config import Config, compose
from poise.errors import UserError
from poise.torchrun import Machines, command, machines, main

TWO = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first"}


def config(**values: object) -> Config:
    return compose({"recipe": "trades", **values})


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, Machines(1, 0, "", 0)),
        ({"NNODES": "1", "NODE_RANK": "7"}, Machines(1, 0, "", 0)),
        (TWO, Machines(2, 1, "first", 29500)),
        (TWO | {"MASTER_PORT": "4711"}, Machines(2, 1, "first", 4711)),
    ],
)
def test_machines_are_what_the_environment_says(environment: dict[str, str], found: Machines) -> None:
    assert machines(environment) == found


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"NNODES": "two"}, r"NNODES=two is not a number from 1 on\."),
        ({"NNODES": "0"}, r"NNODES=0 is not a number from 1 on\."),
        ({"NNODES": "2"}, r"NNODES=2 needs NODE_RANK: NODE_RANK=0 on the first machine"),
        ({"NNODES": "2", "NODE_RANK": "0"}, r"NNODES=2 needs MASTER_ADDR"),
        (TWO | {"NODE_RANK": "2"}, r"NODE_RANK=2 is none of NNODES=2 machines, which are 0 to 1\."),
        ({"NODE_RANK": "1"}, r"NODE_RANK=1 is set and NNODES is not: NNODES=<machines that train together> belongs to"),
        (TWO | {"MASTER_PORT": "-1"}, r"MASTER_PORT=-1 is no port, which are 1 to 65535\."),
        (TWO | {"MASTER_PORT": "65536"}, r"MASTER_PORT=65536 is no port, which are 1 to 65535\."),
    ],
)
def test_machines_that_cannot_be(environment: dict[str, str], line: str) -> None:
    with pytest.raises(UserError, match=line):
        machines(environment)


def test_one_machine_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["recipe=trades", "tracking.experiment=$(a) 'b' \"c\"", "trainer.devices=4"]
    words = command(config(trainer={"devices": 4}), given, Machines(1, 0, "", 0))
    assert words[:6] == [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        "--standalone",
        "--nproc-per-node=4",
    ]
    *_, module, logs, train, first, second, third, run_dir = words
    assert (module, train, [first, second, third]) == ("poise.torchrun_rank", "train", given)
    assert run_dir.startswith("run_dir=runs/")
    assert logs == f"{run_dir.removeprefix('run_dir=')}/logs"


def test_several_machines_share_a_directory() -> None:
    these = Machines(2, 1, "first", 29500)
    words = command(config(run_dir="/shared/mine"), ["run_dir=/shared/mine"], these)
    assert words[4:7] == ["--node-rank=1", "--master-addr=first", "--master-port=29500"]
    assert words[-3:] == ["/shared/mine/logs", "train", "run_dir=/shared/mine"]
    with pytest.raises(UserError, match=r"NNODES=2: give run_dir=, the same on all machines, on a file system that"):
        command(config(), [], these)


def test_mistakes_are_said_before_any_rank_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=trads"]) == 2
    assert "Did you mean 'trades'?" in capsys.readouterr().err
    assert main(["slurm.nodes=2"]) == 2
    assert "slurm.nodes asks a cluster for a job" in capsys.readouterr().err


def test_two_machines_get_the_weights_of_one_process(tmp_path: Path) -> None:
    """Each machine is an agent of its own; they meet over TCP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    given = "recipe=trades model=mlp optimizer.lr=0.1 evaluation=none calibration=none tracking=none"
    trainer = {"max_epochs": 1, "max_steps": 4, "precision": "64-true", "progress": False}
    sizes = [f"trainer.{name}={str(value).lower()}" for name, value in trainer.items()]
    agents = [
        subprocess.Popen(
            [sys.executable, "-m", "poise.torchrun", *given.split(), *sizes, "run_dir=shared"],
            cwd=tmp_path,
            env={**os.environ, **meeting, "NODE_RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in (0, 1)
    ]
    said = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert [text.count("Training trades") for text in said] == [1, 0]
    assert [text.count("Run:   shared") for text in said] == [1, 0]
    assert [path.name for path in (tmp_path / "shared" / "logs").iterdir()] == ["rank-1.log"]

    values = dict(word.split("=") for word in given.split())
    values |= {"optimizer": {"lr": 0.1}}
    values.pop("optimizer.lr")
    fit(**values, trainer=trainer, run_dir=str(tmp_path / "alone"))
    found, expected = (load_file(tmp_path / run / "predictor" / "model.safetensors") for run in ("shared", "alone"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)
