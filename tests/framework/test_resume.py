"""A run that is stopped anywhere and resumed ends exactly as one that was not: compared bit by bit."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from poise import checkpoint
from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.run_directory import RunDirectory
from poise.step import Step
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
        self.scale = torch.nn.Parameter(torch.ones(()))

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


def finished(run_dir: Path, **options: Any) -> Path:
    small_fit(run_dir, recipe(options.pop("replays", 1)), **options)
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


def left_behind(run_dir: Path) -> dict[str, Any]:
    """All that a finished run left: report, shipped weights, every file of its checkpoints."""
    directory = RunDirectory(run_dir)
    found: dict[str, Any] = {"report": directory.metrics()}
    for path in sorted(run_dir.rglob("*")):
        name = path.relative_to(run_dir).as_posix()
        if path.suffix == ".safetensors":
            found[name] = load_file(path)
        elif path.suffix == ".pt" or (path.name == "state" and path.is_file()):
            found[name] = torch.load(path, weights_only=False, map_location="cpu")
    for manifest in (run_dir / "checkpoints").glob("*/manifest.json"):
        found[f"facts {manifest.parent.name}"] = json.loads(manifest.read_text())["facts"]
    return found


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested values are not equal, bit by bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [f"{where}: {float((one.double() - other.double()).abs().max()):.3g}"]
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = sorted({*map(str, one), *map(str, other)})
        ones, others = ({str(k): v for k, v in m.items()} for m in (one, other))
        return [d for k in keys for d in differences(ones.get(k), others.get(k), f"{where}/{k}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}/{i}")]
    plain = int | float | str | bool | None
    same = one == other if isinstance(one, plain) else type(one) is type(other)
    return [] if same else [f"{where}: {one!r} is not {other!r}"]


def same(whole: Path, resumed: Path) -> bool:
    found = differences(left_behind(whole), left_behind(resumed))
    assert found == []
    return True


WHERE = [
    pytest.param({"at_step": 6, "trainer": {"checkpoint_every": 1}}, id="inside the second epoch"),
    pytest.param({"at_step": 2, "trainer": {"checkpoint_every": 1}}, id="inside the first epoch"),
    pytest.param({"at_step": 5, "trainer": {}}, id="after the first epoch"),
    pytest.param({"at_epoch": 1, "trainer": {"checkpoint_every": 1}}, id="between an epoch's last step and its end"),
    pytest.param({"at_step": 7, "trainer": {"checkpoint_every": 3, "accumulate": 2}}, id="accumulating"),
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
