import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from poise.errors import UserError
from poise.models.lookup import build
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.small_cnn import small_cnn
from poise.predictor import Card, Predictor
from small_runs import CLASSES, network

NAMES = ("a", "b", "c")


class Doubles(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return 2 * logits


def card(**changes: object) -> Card:
    facts = {"model": {"name": "small_cnn", "parameters": {"width": 4}}, **changes}
    return Card(input_shape=(1, 8, 8), class_names=NAMES, valid_range=(0.0, 1.0), **facts)  # type: ignore[arg-type]


def predictor(**changes: object) -> Predictor:
    torch.manual_seed(0)
    return Predictor(small_cnn(CLASSES, (1, 8, 8), width=4), card(**changes))


def test_it_gives_calibrated_probabilities() -> None:
    model = small_cnn(CLASSES, (1, 8, 8), width=4)
    x = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = (2 * model(x)).softmax(1)
    probabilities = Predictor(model, card(), Doubles())(x)
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    assert not probabilities.requires_grad


def test_pictures_of_bytes_are_their_share_of_255() -> None:
    pictures = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(predictor()(pictures), predictor()(pictures / 255), rtol=0, atol=0)


def test_batch_norm_is_in_evaluation_mode_whatever_the_model_was_in() -> None:
    torch.manual_seed(0)
    shipped = Predictor(small_bn_cnn(CLASSES, (1, 8, 8), width=4).train(), card())
    x = torch.rand(6, 1, 8, 8)
    torch.testing.assert_close(shipped(x)[:2], shipped(x[:2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 8, 8), r"inputs have shape \(2, 8, 8\); this predictor takes \[N, 1, 8, 8\]"),
        (torch.zeros(2, 1, 9, 8), "inputs have shape"),
        (torch.full((2, 1, 8, 8), 255.0), "inputs go from 255 to 255, outside the valid range 0…1"),
        (torch.full((2, 1, 8, 8), torch.nan), "NaN or infinite"),
        (torch.full((2, 1, 8, 8), -0.1), "outside the valid range"),
    ],
)
def test_inputs_it_cannot_take_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predictor()(x)


def test_no_inputs_give_no_probabilities() -> None:
    assert predictor()(torch.zeros(0, 1, 8, 8)).shape == (0, CLASSES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_loads_as_it_was_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = predictor(calibrator={"name": "temperature_scaling", "parameters": {}})
    from poise_recipes import TemperatureScaling

    saved.calibrator = TemperatureScaling()
    saved.calibrator.temperature.fill_(3.0)
    saved.model.to(dtype)
    saved.save(tmp_path / "predictor")
    x = torch.rand(3, 1, 8, 8)
    for path in (tmp_path, tmp_path / "predictor", str(tmp_path)):
        loaded = Predictor.load(path)
        assert torch.equal(loaded(x), saved(x))
        assert next(loaded.model.parameters()).dtype == dtype
        assert tuple(loaded.card.class_names) == NAMES


def test_somebodys_own_model_loads_into_an_instance(tmp_path: Path) -> None:
    own = build(network(), CLASSES, (1, 8, 8))
    saved = Predictor(own, card(model=None))
    saved.save(tmp_path)
    with pytest.raises(UserError, match="somebody's own object: give Predictor.load"):
        Predictor.load(tmp_path)
    x = torch.rand(3, 1, 8, 8)
    other = network()
    nn.init.zeros_(other.classify.weight)
    assert torch.equal(Predictor.load(tmp_path, model=other)(x), saved(x))


def test_code_that_is_not_poises_runs_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_models.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, width=5):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import their_models

    named = {"name": "their_models:make", "parameters": {"width": 7}}
    saved = Predictor(build(their_models.make, CLASSES, (1, 8, 8), width=7), card(model=named))
    saved.save(tmp_path / "run")
    with pytest.raises(UserError, match="their_models:make.*trust=True"):
        Predictor.load(tmp_path / "run")
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(Predictor.load(tmp_path / "run", trust=True)(x), saved(x))


def test_what_is_no_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no predictor"):
        Predictor.load(tmp_path)
    predictor().save(tmp_path)
    facts = json.loads((tmp_path / "predictor.json").read_text())
    for content, message in (
        ("{", "is not a predictor's description"),
        (json.dumps({**facts, "format": 99}), "has format 99, this poise reads up to 1"),
        (json.dumps({**facts, "surprise": 1}), "is not a predictor's description"),
        ("[]", "is not a predictor's description"),
    ):
        (tmp_path / "predictor.json").write_text(content)
        with pytest.raises(UserError, match=message):
            Predictor.load(tmp_path)


def test_weights_that_do_not_fit_or_cannot_be_read_are_refused(tmp_path: Path) -> None:
    predictor(model={"name": "small_cnn", "parameters": {"width": 8}}).save(tmp_path)
    with pytest.raises(UserError, match="does not fit this predictor"):
        Predictor.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"model\.safetensors.*does not fit this predictor"):
        Predictor.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        Predictor.load(tmp_path)
