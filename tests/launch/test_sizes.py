"""The commands of "From a laptop to a cluster" are read as poise reads them, and train the same."""

import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from poise.cli import main
from poise.config import Config, parse
from poise.config.axes import parse_sweep
from poise.config.planning import parse_plan
from poise.continuing import HARMLESS, HARMLESS_GROUPS
from stub_project import LAUNCH

SECTION = (LAUNCH / "README.md").read_text(encoding="utf-8").partition("## From a laptop to a cluster")[2]
COMMANDS = [shlex.split(line) for line in SECTION.split("```")[1].strip().splitlines()]
LAPTOP, GPU, MACHINE, NODES, QUEUE, SWEEP, PLAN = COMMANDS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(config: Config) -> dict[str, Any]:
    """What a config trains, wherever it does."""
    values = asdict(config)
    return {
        name: values[name] for name in ("recipe", "data", "model", "optimizer", "schedule", "threat", "augment")
    } | {"steps of": (config.trainer.batch_size, config.trainer.block_size, config.seed)}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_each_is_a_script_or_poise(words: list[str]) -> None:
    assert words[:2] == [".venv/bin/poise", "plan"] or (LAUNCH.parent / words[0]).is_file()


@pytest.mark.parametrize("words", [LAPTOP, GPU, MACHINE])
def test_those_of_one_machine_compose(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert words[0] == "launch/local.sh"
    assert main(["train", *words[1:], "--print-config"]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (NODES, ["--nodes=2", "--gpus-per-node=8"]),
        (QUEUE, ["--signal=USR1@300", "--requeue"]),
        (SWEEP, ["--array=0-5%3"]),
    ],
)
def test_those_of_a_cluster_become_jobs(words: list[str], asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert words[0] == "launch/slurm.sh"
    assert main(["submit", *words[1:], "--dry-run"]) == 0
    job = capsys.readouterr().out
    assert all(f"#SBATCH {option}\n" in job for option in asked)


def test_all_of_them_train_the_same() -> None:
    configs = [parse(words[1:]) for words in (LAPTOP, GPU, MACHINE, NODES, QUEUE)]
    configs += [found.config for found in parse_sweep([word for word in SWEEP[1:] if word != "--sweep"])][:1]
    configs.append(parse_plan(PLAN[2:]).config)
    assert all(trained(config) == trained(configs[0]) for config in configs)


def test_what_may_change_in_a_run_is_what_it_says() -> None:
    (said,) = re.findall(r"The same `run_dir` goes on with other (.*)\.\n", SECTION)
    named = re.findall(r"`([\w.*]+)`", said)
    assert set(named) <= {*HARMLESS, *(f"{group}*" for group in HARMLESS_GROUPS)}
    (kept,) = re.findall(r"to which (.*) belong", SECTION)
    assert not {*re.findall(r"`([\w.]+)`", kept)} & {*HARMLESS}


def test_the_ranks_it_names_are_those_that_fit() -> None:
    config = parse(NODES[1:])
    ((batch, ranks, block),) = re.findall(r"(\d+) goes over ([\d, or]+)\n\s+ranks in blocks of (\d+)", SECTION)
    assert (int(batch), int(block)) == (config.trainer.batch_size, config.trainer.block_size)
    most = int(batch) // int(block)
    assert [int(number) for number in re.findall(r"\d+", ranks)] == [n for n in range(1, most + 1) if most % n == 0]
