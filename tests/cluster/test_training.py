"""One run on two nodes, and the same run disturbed again and again: nothing is lost, nothing is different."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.slurm import Cluster
from framework.tracking.tracked_runs import rows, stored_twice
from poise import Predictor, checkpoint, fit
from poise.history import History

STEPS = 32  # of two epochs
TRAINER = {"max_epochs": 2, "batch_size": 64, "precision": "64-true", "progress": False}
SETTINGS = (
    *(f"trainer.{name}={str(value).lower()}" for name, value in TRAINER.items()),
    "trainer.checkpoint_every=2",
    "tracking.every=1",
    "slurm.nodes=2",
)
DISTURBED = ("recipe=trades,cluster.paced:Paced", "recipe.Paced.seconds=0.25", "run_dir=disturbed", *SETTINGS)
LONG = 300.0  # seconds
LOST = 120.0  # seconds, of which Slurm takes 20 to notice that a node is lost, and as many to start again


def without_times(metrics: Mapping[str, float]) -> dict[str, float]:
    """What two runs that are alike have in common."""
    return {name: value for name, value in metrics.items() if "/attack_milliseconds/" not in name}


@dataclass(frozen=True)
class Run:
    """A run, and the job that trains it."""

    cluster: Cluster
    path: Path
    number: str

    @property
    def job(self) -> dict[str, str]:
        return self.cluster.job(self.number)

    @property
    def saved(self) -> int:
        """The step of the newest checkpoint."""
        whole = (path.name for path in (self.path / "checkpoints").glob("step-*") if not path.suffix)
        return max((int(name.partition("-")[2]) for name in whole), default=0)

    @property
    def curves(self) -> dict[str, dict[int, float]]:
        return History(self.path / "curves.jsonl").read()

    @property
    def metrics(self) -> dict[str, float]:
        return without_times(json.loads((self.path / "report.json").read_text()))

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.path / "predictor" / "model.safetensors")

    def log(self, rank: int = 0) -> str:
        return (self.path / "logs" / f"rank-{rank}.log").read_text()

    def gets_on(self) -> int:
        """Wait until it writes a checkpoint; returns its step."""
        before = self.saved
        self.cluster.until(f"a checkpoint after step {before}", lambda: self.saved > before, LONG)
        return self.saved

    def starts_again(self, time: int, within: float = LONG) -> None:
        """Wait until it has gone back into the queue and out of it again, for the so manieth time."""
        now = {"JobState": "RUNNING", "Restarts": str(time)}
        self.cluster.until(f"start {time} after the first", lambda: now.items() <= self.job.items(), within)

    def tracked(self, what: str) -> list[int]:
        query = (
            f"select step from metrics join runs using (run_uuid) where name = '{self.path.name}' and key = '{what}'"
        )
        return sorted(step for (step,) in rows(self.path.with_name("mlflow.db"), query))


@pytest.fixture(scope="module")
def runs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Two that train side by side, and track themselves in a database which neither finds there."""
    folder = tmp_path_factory.mktemp("runs")
    numbers = {
        "whole": cluster.submit("recipe=trades", "run_dir=whole", *SETTINGS, cwd=folder),
        "disturbed": cluster.submit(*DISTURBED, cwd=folder),
    }
    return {name: Run(cluster, folder / name, number) for name, number in numbers.items()}


@pytest.fixture(scope="module")
def whole(runs: dict[str, Run]) -> Run:
    """The run that nobody disturbs, at its end."""
    run = runs["whole"]
    assert run.cluster.ended(run.number, LONG) == "COMPLETED", run.log()
    return run


def test_a_run_that_is_disturbed_again_and_again_ends_as_one_that_is_not(
    cluster: Cluster, runs: dict[str, Run], request: pytest.FixtureRequest
) -> None:
    run = runs["disturbed"]
    run.gets_on()
    cluster.run("scancel", "--signal=USR1", run.number)  # as Slurm does before a job's time is over
    run.starts_again(1)
    stopped = run.saved
    assert f"Stopped by SIGUSR1: the same command with run_dir=disturbed goes on from step {stopped}." in run.log()

    run.gets_on()
    assert f"Going on from step {stopped}\n" in run.log()
    cluster.run("scontrol", "requeue", run.number)  # as Slurm does where another job takes precedence
    run.starts_again(2)

    run.gets_on()
    with cluster.without("n2"):
        run.starts_again(3, within=LOST)
        assert run.job["NodeList"] == "n[1,3]"
        run.gets_on()

    assert cluster.ended(run.number, LONG) == "COMPLETED"
    assert run.log().count("Going on from step") == 3
    assert run.job["Restarts"] == "3"  # Lightning, which would requeue a job as well, keeps out of it
    assert "requeue" not in (run.path / "log.txt").read_text() + run.log() + run.log(1)
    undisturbed = request.getfixturevalue("whole")
    assert run.curves == undisturbed.curves
    assert run.metrics == undisturbed.metrics
    assert all(torch.equal(run.weights[name], weight) for name, weight in undisturbed.weights.items())
    assert run.tracked("train/loss") == list(range(1, STEPS + 1))


def test_a_job_trains_on_two_nodes(whole: Run) -> None:
    assert {"ExitCode": "0:0", "Restarts": "0", "NodeList": "n[1-2]"}.items() <= whole.job.items()
    said = (whole.path / f"slurm-{whole.number}.log").read_text()
    assert re.fullmatch(rf".* job {whole.number}: start 1 on n\[1-2\], in {whole.path}\n", said)
    assert whole.log().startswith("Training trades,pgd on digits, small_cnn, 2 epochs\n")
    assert "Training" not in whole.log(1)
    kept = checkpoint.newest(whole.path / "checkpoints")
    assert kept is not None
    assert (kept.facts["step"], kept.ranks) == (STEPS, 2)
    assert Predictor.load(whole.path)(torch.full((1, 1, 8, 8), 0.5)).shape == (1, 10)
    assert (whole.path / "report.html").is_file()


def test_rank_0_alone_tracks_it(whole: Run) -> None:
    database = whole.path.with_name("mlflow.db")
    assert rows(database, "select status from runs where name = 'whole'") == [("FINISHED",)]
    assert whole.tracked("train/loss") == list(range(1, STEPS + 1))
    assert stored_twice(database) == []


def test_its_numbers_are_those_of_one_node(whole: Run, tmp_path: Path) -> None:
    result = fit("trades", trainer=TRAINER, tracking="none", run_dir=str(tmp_path / "one"))
    assert whole.metrics == pytest.approx(without_times(result.metrics), abs=1e-9)
    alone = load_file(tmp_path / "one" / "predictor" / "model.safetensors")
    for name, weight in alone.items():
        torch.testing.assert_close(whole.weights[name], weight, rtol=0, atol=1e-9)
