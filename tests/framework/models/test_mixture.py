"""Two trained classifiers as one: its numbers, how it is shipped, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from poise import evaluate
from poise.card import Card
from poise.config.evaluating import parse_evaluation
from poise.errors import UserError
from poise.located import located
from poise.models.classifier import Classifier
from poise.models.lookup import build
from poise.models.mixing import keeps_prediction, mixed
from poise.models.mixture import mixture
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.small_cnn import small_cnn
from poise.predictor import Predictor
from small_runs import splits

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A standard and a robust member, as their runs would have shipped them."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, (name, make) in enumerate({"standard": small_cnn, "robust": small_bn_cnn}.items()):
        torch.manual_seed(seed)
        described = {"name": make.__name__, "parameters": {"width": 4 + seed}}
        card = Card(SHAPE, ("a", "b", "c"), (0.0, 1.0), described)
        Predictor(make(3, SHAPE, width=4 + seed), card).save(folder / name)
    return {name: str(folder / name) for name in ("standard", "robust")}


def member(where: str) -> Classifier:
    return Predictor.load(where).model


def pictures() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
def test_probabilities_are_mixed(runs: dict[str, str], alpha: float) -> None:
    model, x = mixture(3, SHAPE, **runs, alpha=alpha, standard_scale=2.0, robust_scale=0.5).double().eval(), pictures()
    p, q = (member(where).double()(x.double()) for where in runs.values())
    expected = (1 - alpha) * (2 * p).softmax(1) + alpha * (q / 2).softmax(1)
    torch.testing.assert_close(model(x.double()).exp(), expected, rtol=0, atol=1e-7)


def test_probabilities_that_vanish_are_mixed_without_a_gap() -> None:
    sure = torch.tensor([[0.0, -300.0], [-300.0, 0.0]], requires_grad=True)
    said = mixed(sure, sure.flip(1), torch.zeros(2, 1), torch.full((2, 1), -torch.inf))
    torch.testing.assert_close(said, sure)
    said.sum().backward()
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


def test_a_learned_share_stays_between_its_ends_once_it_is_not_trained(runs: dict[str, str]) -> None:
    torch.manual_seed(0)
    model, x = mixture(3, SHAPE, **runs, low=0.6, high=0.8), pictures()
    with torch.no_grad():
        model.backbone.mixing[-1].bias.fill_(50.0)
        assert torch.equal(model.train()(x), model.backbone.robust(x).log_softmax(1))
        p, q = (part(x).softmax(1) for part in (model.backbone.standard, model.backbone.robust))
        torch.testing.assert_close(model.eval()(x).exp(), 0.2 * p + 0.8 * q)


def test_members_are_frozen_and_stay_in_evaluation_mode(runs: dict[str, str]) -> None:
    model = build(mixture, 3, SHAPE, **runs)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        f"backbone.mixing.{number}.{kind}" for number in (1, 3) for kind in ("weight", "bias")
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()(pictures())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_shipped_needs_no_run_of_its_members(runs: dict[str, str], tmp_path: Path) -> None:
    result = evaluate(
        {"name": "mixture", **runs, "alpha": 0.8},
        splits(),
        evaluation="clean",
        calibration="none",
        tracking="none",
        trainer={"accelerator": "cpu", "progress": False},
        run_dir=str(tmp_path / "run"),
    )
    expected = mixture(3, SHAPE, **runs, alpha=0.8).eval()(pictures()).softmax(1)
    for where in runs.values():
        Path(where).rename(f"{where}-away")
    try:
        torch.testing.assert_close(Predictor.load(result.path)(pictures()), expected)
    finally:
        for where in runs.values():
            Path(f"{where}-away").rename(where)


def test_a_card_makes_nobody_read_other_predictors(runs: dict[str, str], tmp_path: Path) -> None:
    described = {"name": "mixture", "parameters": {**runs, "alpha": 0.8}}
    model = mixture(3, SHAPE, **runs, alpha=0.8)
    card = Card(SHAPE, ("a", "b", "c"), (0.0, 1.0), described)
    Predictor(model, card).save(tmp_path)
    file = tmp_path / "predictor.json"
    facts = json.loads(file.read_text())
    facts["model"]["parameters"]["robust"] = runs["robust"]
    file.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"robust names another one \(.*\) instead of holding it"):
        Predictor.load(tmp_path)


def test_what_is_no_member_is_refused_in_a_line(runs: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.robust=.*nowhere: there is no run"):
        mixture(3, SHAPE, standard=runs["standard"], robust=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="in 3 classes; the data have .* in 4"):
        mixture(4, SHAPE, **runs)
    with pytest.raises(UserError, match="model.low=0.9 is above model.high=0.8"):
        mixture(3, SHAPE, **runs, low=0.9, high=0.8)
    with pytest.raises(UserError, match="model.standard= is empty"):
        mixture(3, SHAPE, standard="", robust=runs["robust"])
    with pytest.raises(UserError, match="model.standard is not a predictor's description: input_shape is missing"):
        mixture(3, SHAPE, standard="{}", robust=runs["robust"])


def test_a_constant_share_leaves_nothing_to_train(runs: dict[str, str], tmp_path: Path) -> None:
    from small_runs import small_fit

    with pytest.raises(UserError, match=r"no weight of the model is left to train.*poise evaluate"):
        small_fit(tmp_path, model={"name": "mixture", **runs, "alpha": 0.8})


def test_a_certificate_of_the_robust_member_is_the_mixtures() -> None:
    keyed = torch.Generator().manual_seed(0)
    p, q = (3 * torch.randn(2, 4000, 5, generator=keyed)).softmax(-1)
    alpha = torch.rand(4000, generator=keyed)
    first, second = q.topk(2).values.unbind(1)
    kept = keeps_prediction(first - second, alpha)
    assert 0.2 < kept.double().mean() < 0.8
    whatever = (1 - alpha[:, None]) * p + alpha[:, None] * q
    assert torch.equal(whatever.argmax(1)[kept], q.argmax(1)[kept])
    # and no more can be said: where it does not hold, a standard member that is sure of the runner-up overturns it
    worst = torch.nn.functional.one_hot(q.topk(2).indices[:, 1], 5)
    overturned = (1 - alpha[:, None]) * worst + alpha[:, None] * q
    assert (overturned.argmax(1) != q.argmax(1))[~kept].all()
    assert not keeps_prediction(torch.ones(2), torch.tensor([0.5, 0.2])).any()


def test_the_command_asks_for_no_weights_but_its_members(runs: dict[str, str]) -> None:
    members = [f"model.{name}={where}" for name, where in runs.items()]
    asked = parse_evaluation(["model=mixture", *members, "model.alpha=0.8", "data=digits"], located)
    assert asked.config.model.params["alpha"] == 0.8
    with pytest.raises(UserError, match=r"model.checkpoint= is missing: resnet18"):
        parse_evaluation(["model=resnet18", "data=digits"], located)
    with pytest.raises(UserError, match="model.robust is missing: mixture needs it"):
        parse_evaluation(["model=mixture", members[0], "data=digits"], located)
