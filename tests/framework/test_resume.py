"""A run that is stopped anywhere and resumed ends exactly as one that was not: compared bit by bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from left_behind import same
from poise import checkpoint
from poise.batch import Batch, Outcome
from poise.config import from_yaml
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.run_directory import RunDirectory
from poise.step import Step
from poise.train import run
from ranks import Pair
from small_runs import small_fit


class Stopped(Exception):
    """What a test stops a run with."""


class Stops(Recipe):
    """Stops the run, once armed, at the end of a step or of an epoch."""

    at_step: ClassVar[int | None] = None
    at_epoch: ClassVar[int | None] = None

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step + 1 == Stops.at_step:
            raise Stopped

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        if step.epoch == Stops.at_epoch:
            raise Stopped


class Remembers(Recipe):
    """Everything a recipe may keep: a table, a value of each rank, a parameter, an average, extra state."""

    per_rank = frozenset({"delta"})
    needs = frozenset({"index", "clean"})

    def __init__(self, replays: int = 1) -> None:
        super().__init__()
        self.replays = replays
        self.epochs = 0

    def setup(self, task: Task, model: Classifier) -> None:
        self.register_buffer("table", torch.ones(task.num_train))
        self.register_buffer("delta", torch.zeros(1, 8, 8))
        self.register_buffer("starts", torch.zeros(()))
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        for name, value in self.average.items():
            self.register_buffer(name.replace(".", "_"), value)
        # batch statistics are each rank's own, and so are averages of them
        self.per_rank |= {name.replace(".", "_") for name in self.average if "running" in name}
        self.scale = torch.nn.Parameter(torch.ones(1))

    def attack(self, batch: Batch, step: Step) -> Batch:
        start = 0.02 * step.uniform(batch, batch.x, "start")
        x = (batch.x + start + self.delta).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(step.inner(batch)(x).sum(), x)
        return batch.replace(x_adv=(x + 0.02 * gradient.sign()).clamp(0, 1).detach())

    def objective(self, batch: Batch, step: Step) -> Outcome:
        clean, adv = step.forward(batch.x, batch), step.forward(batch.x_adv, batch)  # type: ignore[arg-type]
        loss = step.loss(clean.logits, batch) + self.scale * step.loss(adv.logits, batch)
        return Outcome(loss, clean=clean, adv=adv)

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        return batch.lookup(self.table) + 0.1 * self.starts

    def lr_factor(self, step: Step) -> float:
        return 1.0 / (1 + self.epochs)

    def eval_weights(self) -> dict[str, Tensor]:
        return {name: getattr(self, name.replace(".", "_")) for name in self.average}

    def on_epoch_start(self, step: Step) -> None:
        self.starts += 1

    def on_step_end(self, batch: Batch, step: Step) -> None:
        assert batch.x_adv is not None
        self.delta.copy_(0.5 * self.delta + 0.1 * (batch.x_adv - batch.x).mean(0))
        seen = step.ranks.gather(torch.stack([batch.index.double(), batch.x.double().mean((1, 2, 3))], 1))  # type: ignore[union-attr]
        self.table[seen[:, 0].long()] = seen[:, 1].float() + 0.5
        for name, value in step.model.state_dict().items():
            own = getattr(self, name.replace(".", "_"))
            own.copy_(0.9 * own + 0.1 * value)

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        self.epochs += 1 + int(metrics["val/accuracy"] > 2)

    def get_extra_state(self) -> dict[str, int]:
        return {"epochs": self.epochs}

    def set_extra_state(self, state: Any) -> None:
        self.epochs = state["epochs"]


@pytest.fixture(autouse=True)
def _unarmed() -> Iterator[None]:
    yield
    Stops.at_step = Stops.at_epoch = None


def recipe(replays: int = 1) -> list[Recipe]:
    from poise_recipes import GroupDRO, Mixup

    return [Remembers(replays), Mixup(), GroupDRO(eta=0.5), Stops()]


GROUPS = {"name": "sgd", "layer_decay": 0.7, "decay_norms_and_biases": False}


def finished(run_dir: Path, **options: Any) -> Path:
    small_fit(run_dir, recipe(options.pop("replays", 1)), **{"optimizer": GROUPS, **options})
    return run_dir


def stopped(run_dir: Path, at_step: int | None = None, at_epoch: int | None = None, **options: Any) -> Path:
    """A run stopped at a step or an epoch's end, and then resumed."""
    Stops.at_step, Stops.at_epoch = at_step, at_epoch
    with pytest.raises(Stopped):
        finished(run_dir, **options)
    Stops.at_step = Stops.at_epoch = None
    assert not RunDirectory(run_dir).finished
    assert checkpoint.newest(run_dir / "checkpoints") is not None
    return finished(run_dir, **options)


WHERE = [
    pytest.param({"at_step": 6, "trainer": {"checkpoint_every": 1}}, id="inside the second epoch"),
    pytest.param({"at_step": 2, "trainer": {"checkpoint_every": 1}}, id="inside the first epoch"),
    pytest.param({"at_step": 5, "trainer": {}}, id="after the first epoch"),
    pytest.param({"at_epoch": 1, "trainer": {"checkpoint_every": 1}}, id="between an epoch's last step and its end"),
    pytest.param({"at_step": 7, "trainer": {"checkpoint_every": 3, "accumulate": 2, "block": 8}}, id="accumulating"),
    pytest.param({"at_step": 13, "trainer": {"checkpoint_every": 1}, "replays": 2}, id="between replays"),
    pytest.param({"at_step": 11, "trainer": {"checkpoint_every": 2}, "replays": 2}, id="replaying"),
]


@pytest.mark.parametrize("options", WHERE)
def test_a_resumed_run_ends_as_one_that_was_never_stopped(tmp_path: Path, options: dict[str, Any]) -> None:
    at = {name: options[name] for name in ("at_step", "at_epoch") if name in options}
    rest = {name: value for name, value in options.items() if name not in at}
    assert same(finished(tmp_path / "whole", **rest), stopped(tmp_path / "stopped", **at, **rest))


def test_a_run_stopped_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    options = {"trainer": {"checkpoint_every": 1}}
    for step in (1, 3, 4, 5, 8, 9, 12):
        Stops.at_step = step
        with pytest.raises(Stopped):
            finished(tmp_path / "stopped", **options)
    Stops.at_step = None
    assert same(finished(tmp_path / "whole", **options), finished(tmp_path / "stopped", **options))


def finished_in_ranks(run_dir: str, at_step: int | None, options: dict[str, Any]) -> bool:
    """Train in the rank processes; stopped and taken up again where a step is given."""
    if at_step is None:
        finished(Path(run_dir), **options)
    else:
        stopped(Path(run_dir), at_step=at_step, **options)
    return True


@pytest.mark.parametrize("name", ["ddp", "deepspeed_zero2"])
def test_two_ranks_resume_exactly_with_what_is_each_ones_own(pair: Pair, tmp_path: Path, name: str) -> None:
    trainer = {"devices": 2, "accumulate": 2, "block": 4, "checkpoint_every": 1}
    options = {"strategy": name, "trainer": trainer}
    assert pair.run(finished_in_ranks, str(tmp_path / "whole"), None, options) == [True, True]
    assert pair.run(finished_in_ranks, str(tmp_path / "stopped"), 7, options) == [True, True]
    assert same(tmp_path / "whole", tmp_path / "stopped")
    manifest = checkpoint.newest(tmp_path / "whole" / "checkpoints")
    assert manifest is not None
    ranks = [checkpoint.rank_state(manifest, rank) for rank in range(2)]
    for buffer in ("model.backbone.features.1.running_mean", "stack.Remembers.delta"):
        assert not torch.equal(ranks[0][buffer], ranks[1][buffer])


class Records(Recipe):
    """Notes which examples come, and the batch statistics they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[tuple[int, list[int], dict[str, Tensor]]] = []

    def mix(self, batch: Batch, step: Step) -> Batch:
        assert batch.index is not None
        state = {n: v.clone() for n, v in step.model.state_dict().items() if "running" in n}
        self.met.append((step.global_step, batch.index.tolist(), state))
        return batch


# one name for the config, whichever process wrote it
Records.__module__ = Remembers.__module__ = Stops.__module__ = "__main__"


def recorded(run_dir: str, devices: int, at_step: int | None) -> list[Any]:
    Stops.at_step = at_step
    records = Records()
    trainer = {"devices": devices, "block": 8, "checkpoint_every": 1}
    try:
        small_fit(run_dir, [records, Stops()], trainer=trainer)
    except Stopped:
        Stops.at_step = None
    return records.met


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_the_next_example_on_another_number_of_ranks(
    pair: Pair, tmp_path: Path, before: int, after: int
) -> None:
    def on(ranks: int, at_step: int | None, run_dir: Path) -> list[list[Any]]:
        arguments = (str(run_dir), ranks, at_step)
        return pair.run(recorded, *arguments) if ranks == 2 else [recorded(*arguments)]

    (whole,) = on(1, None, tmp_path / "whole")
    on(before, 7, tmp_path / "run")
    manifest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert manifest is not None
    assert manifest.facts["step"] == 6
    states = [checkpoint.rank_state(manifest, rank) for rank in range(before)]
    resumed = on(after, None, tmp_path / "run")
    assert [met[0] for met in resumed[0]] == list(range(6, 12))
    for step, expected, _ in whole[6:]:
        assert [row for rank in resumed for row in rank[step - 6][1]] == expected
    for name, value in resumed[0][0][2].items():
        mean = sum(state[f"model.{name}"] for state in states) / before
        torch.testing.assert_close(value, mean, rtol=0, atol=1e-6)
        assert all(torch.equal(value, rank[0][2][name]) for rank in resumed)


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    settings = {
        "recipe": "mixup",
        "model": "small_bn_cnn",
        "evaluation": "clean",
        "run_dir": tmp_path / "killed",
        "trainer.max_epochs": 6,
        "trainer.batch_size": 256,
        "trainer.checkpoint_every": 1,
        "trainer.progress": "false",
        "tracking": "none",
    }
    command = [sys.executable, "-m", "poise", "train", *(f"{name}={value}" for name, value in settings.items())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints, deadline = tmp_path / "killed" / "checkpoints", time.monotonic() + 120
    while not list(checkpoints.glob("step-0000000[5-9]")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    written = (tmp_path / "killed" / "config.yaml").read_text()
    killed = run(from_yaml(written)).path
    whole = run(from_yaml(written.replace(str(killed), str(tmp_path / "whole")))).path
    assert "resuming from" in (killed / "log.txt").read_text()
    assert same(whole, killed)


def test_an_evaluation_that_is_interrupted_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("poise.train.evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"run_dir=\S*run goes on from step 12\."):
            small_fit(tmp_path / "run")
    assert small_fit(tmp_path / "run").metrics["test/accuracy"] >= 0
    assert "Going on from step 12" in capsys.readouterr().out
