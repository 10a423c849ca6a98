"""Overfitting to one gradient step: a fall of accuracy under PGD is seen, and taken back where asked."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from poise import Batch, Recipe, Result, Step, Task, Threat, UserError, checkpoint, fit
from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.distributed import Ranks
from poise.history import History
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.run_directory import RunDirectory
from poise.saving import WEIGHTS
from poise_recipes import FGSMRS
from poise_recipes.adversarial.collapse import alignment

X = torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(6) % 3


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), *layers, nn.Linear(8, 3)).double()


def test_gradients_of_a_model_without_curvature_agree_and_flat_ones_do_not_count() -> None:
    near = (X + 1e-6).clamp(0, 1)
    torch.testing.assert_close(alignment(network(nn.Tanh()), X, near, LABEL), torch.ones(6).double())
    flat = nn.Sequential(nn.Linear(5, 3)).double()
    nn.init.zeros_(flat[0].weight)
    assert alignment(flat, X, near, LABEL).isnan().all()


def test_cosines_are_those_of_gradients_by_hand() -> None:
    model, near = network(nn.Tanh()), 1 - X
    found = alignment(model, X, near, LABEL)
    for row in range(6):
        gradients = []
        for x in (X[row], near[row]):
            x = x.clone().requires_grad_()
            nn.functional.cross_entropy(model(x), LABEL[row]).backward()
            gradients.append(x.grad)
        g, h = gradients
        assert float(found[row]) == pytest.approx(float(g @ h / g.norm() / h.norm()))


class Epochs:
    """A classifier that knows its four examples, and epochs after which it does or does not."""

    def __init__(self, recipe: FGSMRS) -> None:
        self.model = Classifier(nn.Identity(), nn.Linear(4, 3)).double()
        self.recipe, self.reasons, self.logged = recipe, list[str](), dict[str, object]()
        self.data = Arrays(torch.eye(4).double(), torch.tensor([0, 1, 2, 0]))
        recipe.setup(Task(3, num_train=4), self.model)

    def end(self, number: int, knows: float, examples: int = 4) -> None:
        """The end of an epoch, with this factor on weights that are right about the first so many examples."""
        with torch.no_grad():
            nn.init.zeros_(self.model.head.bias)
            self.model.head.weight.copy_(knows * torch.eye(3, 4))
            self.model.head.weight[0, 3] = knows
            self.model.head.weight[:, examples:] *= -1
        step = Step(
            self.model,
            threat=Threat("linf", 0.1),
            epoch=number,
            predict=self.predictions,
            log=self.logged.__setitem__,
            stop=self.reasons.append,
        )
        self.recipe.on_epoch_start(step)
        self.recipe.on_epoch_trained(step)

    def predictions(self, split: str, rows: Tensor, attack: Any) -> Predictions:
        assert split == "train"
        return predict(self.model, self.data.rows(rows), Ranks(), attack)


def test_a_fall_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    run = Epochs(FGSMRS())
    run.end(0, knows=1.0)
    assert run.logged["fgsm_rs/robust_accuracy"] == 1.0
    assert caplog.messages == []
    run.end(1, knows=-1.0)
    assert run.logged["fgsm_rs/robust_accuracy"] == 0.0
    (line,) = caplog.messages
    assert line.startswith(
        "fgsm_rs overfits to itself: PGD accuracy on training examples fell from 1.000 after epoch 1 to 0.000"
    )
    assert "recipe.fgsm_rs.restore=true" in line
    run.end(2, knows=-1.0)
    assert len(caplog.messages) == 1
    assert run.reasons == []


def test_no_fall_no_word(caplog: pytest.LogCaptureFixture) -> None:
    run = Epochs(FGSMRS(restore=True))
    for number, knows in enumerate([-1.0, 1.0, 2.0, 1.0]):
        run.end(number, knows)
    assert (caplog.messages, run.reasons) == ([], [])


def test_a_slow_fall_is_seen_as_well_and_once(caplog: pytest.LogCaptureFixture) -> None:
    run = Epochs(FGSMRS(drop=0.6))
    for number, examples in enumerate([2, 4, 3, 2, 1, 1, 1]):
        run.end(number, 1.0, examples)
        assert len(caplog.messages) == (number >= 4)
    assert "from 1.000 after epoch 2 to 0.250 after epoch 5" in caplog.messages[0]


def test_it_goes_back_where_it_is_asked_to() -> None:
    run = Epochs(FGSMRS(restore=True))
    run.end(0, knows=3.0)
    run.end(1, knows=2.0)
    run.end(2, knows=-1.0)
    (reason,) = run.reasons
    assert reason.endswith("from 1.000 after epoch 2 to 0.000 after epoch 3; the weights are those of epoch 2")
    assert run.model.head.weight[1, 1] == 2.0


def test_a_run_taken_up_decides_the_same() -> None:
    first, second = Epochs(FGSMRS(restore=True)), Epochs(FGSMRS(restore=True))
    first.end(0, knows=3.0)
    second.recipe.load_state_dict(first.recipe.state_dict())
    second.end(1, knows=-1.0)
    assert len(second.reasons) == 1
    assert second.model.head.weight[1, 1] == 3.0


def test_a_foreign_loader_is_not_looked_at() -> None:
    model = Classifier(nn.Identity(), nn.Linear(4, 3))
    recipe = FGSMRS()
    recipe.setup(Task(3), model)
    recipe.on_epoch_trained(Step(model))
    with pytest.raises(UserError, match="restore=true looks at training examples, which a foreign loader gives once"):
        FGSMRS(restore=True).setup(Task(3), model)


EPOCH, TOO_FAST, WELL = 33, 0.05, 0.01  # steps of one on digits, and learning rates


class Sines(nn.Module):
    """A network whose output bends so often that a large learning rate undoes what it has learnt."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.ModuleList([nn.Linear(64, 256), nn.Linear(256, 256)])
            self.classify = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)
        for layer in self.layers:
            h = torch.sin(3 * layer(h))
        return self.classify(h)


class Breaks(Recipe):
    """Breaks the run off after some steps."""

    at: ClassVar[int] = 0

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step + 1 == self.at:
            raise RuntimeError("broken off")


def trained(path: Path, lr: float, restore: bool) -> Result:
    """Three epochs on digits."""
    return fit(
        {"fgsm_rs": {"step_size": 0.2, "restore": restore}, "breaks": Breaks()},
        data="digits",
        model=Sines(),
        threat={"name": "linf", "eps": 0.1},
        optimizer={"name": "sgd", "lr": lr},
        schedule="constant",
        trainer={"max_epochs": 3, "batch_size": 32, "progress": False, "accelerator": "cpu"},
        evaluation="clean",
        calibration="none",
        tracking="none",
        run_dir=str(path),
    )


def said(run: Result) -> list[str]:
    return [line for line in RunDirectory(run.path).log.read_text().splitlines() if "overfits to itself" in line]


def test_a_training_that_falls_is_told_of_and_one_that_rises_is_not(tmp_path: Path) -> None:
    fallen, good = trained(tmp_path / "fallen", TOO_FAST, False), trained(tmp_path / "good", WELL, False)
    (line,) = said(fallen)
    assert "after epoch 2: give recipe.fgsm_rs.restore=true" in line
    assert said(good) == []
    first, second, _ = robust(fallen)
    assert first - second > 0.2
    assert robust(good) == sorted(robust(good))


def robust(run: Result) -> list[float]:
    """The accuracy under attack that was validated after each epoch."""
    return list(History(RunDirectory(run.path).curves).read()["val/robust_accuracy"].values())


def test_a_training_that_falls_ends_with_the_weights_before_and_so_does_one_that_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", TOO_FAST, True)
    monkeypatch.setattr(Breaks, "at", EPOCH + 10)
    with pytest.raises(RuntimeError, match="broken off"):
        trained(tmp_path / "broken", TOO_FAST, True)
    monkeypatch.undo()
    broken = trained(tmp_path / "broken", TOO_FAST, True)
    for run in (whole, broken):
        (line,) = said(run)
        assert "stopped early" in line
        assert line.endswith("after epoch 2; the weights are those of epoch 1")
    first, last = (kept(whole, step) for step in (EPOCH, 2 * EPOCH))
    assert all(torch.equal(first[name], value) for name, value in last.items())
    assert all(torch.equal(kept(broken, 2 * EPOCH)[name], value) for name, value in last.items())
    newest = checkpoint.newest(RunDirectory(whole.path).checkpoints)
    assert newest is not None
    assert newest.facts["step"] == 2 * EPOCH
    assert robust(whole) == [newest.facts["score"]] * 2  # the last checkpoint has the score of what is in it


def kept(run: Result, step: int) -> dict[str, Tensor]:
    """The weights of the checkpoint after some steps."""
    return load_file(RunDirectory(run.path).checkpoints / f"step-{step:08d}" / WEIGHTS)
