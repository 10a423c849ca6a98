"""Overfitting to one gradient step: a fall of accuracy under PGD is seen, and taken back where asked."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poise import Step, Task, Threat, UserError
from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.distributed import Ranks
from poise.models.classifier import Classifier
from poise.predictions import predict
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

    def end(self, number: int, knows: float) -> None:
        """The end of an epoch, with this factor on weights that are right about every example."""
        with torch.no_grad():
            nn.init.zeros_(self.model.head.bias)
            self.model.head.weight.copy_(knows * torch.eye(3, 4))
            self.model.head.weight[0, 3] = knows
        step = Step(
            self.model,
            threat=Threat("linf", 0.1),
            epoch=number,
            predict=self.predictions,
            log=self.logged.__setitem__,
            stop=self.reasons.append,
        )
        self.recipe.on_epoch_start(step)
        self.recipe.on_epoch_end(step, {})

    def predictions(self, split: str, rows: Tensor, attack: Any) -> Predictions:
        assert split == "train"
        return predict(self.model, self.data.rows(rows), Ranks(), attack)


def test_a_fall_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    run = Epochs(FGSMRS())
    run.end(0, knows=1.0)
    assert run.logged["fgsm_rs/train_robust_accuracy"] == 1.0
    assert caplog.messages == []
    run.end(1, knows=-1.0)
    assert run.logged["fgsm_rs/train_robust_accuracy"] == 0.0
    (line,) = caplog.messages
    assert line.startswith("fgsm_rs overfits to itself: PGD accuracy on training examples fell from 1.000 to 0.000 in")
    assert "recipe.fgsm_rs.restore=true" in line
    run.end(2, knows=-1.0)
    assert len(caplog.messages) == 1
    assert run.reasons == []


def test_no_fall_no_word(caplog: pytest.LogCaptureFixture) -> None:
    run = Epochs(FGSMRS(restore=True))
    for number, knows in enumerate([-1.0, 1.0, 2.0, 1.0]):
        run.end(number, knows)
    assert (caplog.messages, run.reasons) == ([], [])


def test_it_goes_back_where_it_is_asked_to() -> None:
    run = Epochs(FGSMRS(restore=True))
    run.end(0, knows=3.0)
    run.end(1, knows=2.0)
    run.end(2, knows=-1.0)
    (reason,) = run.reasons
    assert reason.endswith("from 1.000 to 0.000 in epoch 3; the weights are those of epoch 2")
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
    recipe.on_epoch_end(Step(model), {})
    with pytest.raises(UserError, match="restore=true looks at training examples, which a foreign loader gives once"):
        FGSMRS(restore=True).setup(Task(3), model)
