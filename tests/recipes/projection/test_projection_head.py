"""Training with a projection and shipping without it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from poise import Predictions, RecipeStack, Step, Task
from poise.models.mlp import mlp
from poise_recipes import ProjectionHead
from poise_recipes.projection.projection_head import Reweighting, linear_probe


def splits(model: nn.Module) -> dict[str, Predictions]:
    g = torch.Generator().manual_seed(0)
    made = {}
    for name, n in (("train", 120), ("val", 60)):
        label = torch.randint(0, 3, (n,), generator=g)
        x = torch.rand(n, 6, generator=g) + label[:, None] * torch.tensor([3.0, -2.0, 0, 1.0, 0, 0])
        with torch.no_grad():
            out = model.run(x)
        made[name] = Predictions(out.logits, out.features, label, None, torch.arange(n))
    return made


@pytest.mark.parametrize("projection", ["mlp", "linear", "reweighting"])
def test_the_projection_is_trained_with_and_not_shipped(projection: str) -> None:
    torch.manual_seed(0)
    model = mlp(3, (6,), width=8)
    stack = RecipeStack([ProjectionHead(projection, width=5)])
    stack.setup(Task(3, feature_width=model.feature_width), model)
    assert isinstance(model.head, nn.Sequential)
    assert model(torch.rand(2, 6)).shape == (2, 3)
    seen, logged = splits(model), {}
    stack.after_fit(Step(model, stack, predict=seen.__getitem__, log=logged.__setitem__))
    assert type(model.head) is nn.Linear
    assert model.head.in_features == model.feature_width
    prefix = "projection_head/val_accuracy"
    assert set(logged) == {f"{prefix}/{n}" for n in ("training_head", "before_projection", "after_projection")}
    shipped = (model.head(seen["val"].features).argmax(1) == seen["val"].label).float().mean()
    assert logged[f"{prefix}/before_projection"] == pytest.approx(shipped.item())
    assert shipped > 0.8


def test_the_probe_is_the_ridge_logistic_regression() -> None:
    g = torch.Generator().manual_seed(1)
    x, label = torch.randn(80, 4, generator=g, dtype=torch.float64), torch.randint(0, 3, (80,), generator=g)
    probe = linear_probe(x, label, 3, l2=0.1)
    scaled = ((x - x.mean(0)) / x.std(0)).numpy()
    reference = LogisticRegression(C=1 / (0.1 * 80), tol=1e-10, max_iter=1000).fit(scaled, label.numpy())
    np.testing.assert_allclose(probe(x).softmax(1).detach().numpy(), reference.predict_proba(scaled), atol=1e-4)


def test_the_fixed_reweighting_has_the_dimensions_asked_for() -> None:
    scale = Reweighting(400, 20.0).scale.double()
    assert (scale.sum() ** 2 / scale.square().sum()).item() == pytest.approx(20.0, rel=1e-3)
    assert not list(Reweighting(4, 20.0).parameters())
    assert Reweighting(512, 5.0).scale.isfinite().all()
