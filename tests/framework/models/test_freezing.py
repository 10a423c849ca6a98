"""Frozen parts: no gradients, no statistics, whatever else happens."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from poise.errors import UserError
from poise.models.freezing import freeze
from poise.models.lookup import build
from poise.models.small_bn_cnn import small_bn_cnn
from poise.module import TrainingModule
from small_runs import CLASSES, small_fit


def model() -> nn.Module:
    torch.manual_seed(0)
    return small_bn_cnn(CLASSES, (1, 8, 8), width=3)


def test_a_frozen_part_stays_in_evaluation_mode() -> None:
    made = build(small_bn_cnn, CLASSES, (1, 8, 8), frozen=["backbone.block1", "head.bias"])
    assert {name for name, p in made.named_parameters() if not p.requires_grad} == {
        "head.bias",
        *(f"backbone.{name}" for name, _ in made.backbone.named_parameters() if name.startswith("block1")),
    }
    for mode in (True, False, True):
        made.train(mode)
        assert made.training is mode
        assert made.backbone.block2.training is mode
        assert not any(module.training for module in made.backbone.block1.modules())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("block1", r"model\.freeze=block1: the model has no such part\. Did you mean 'backbone\.block1'\?"),
        ("backbone.blok1", r"Did you mean 'backbone\.block1'\?"),
        ("zzz", r"no such part\. It has backbone, backbone\.block1, backbone\.block2, head\."),
        ("backbone.pool", r"model\.freeze=backbone\.pool: this part has no weights"),
    ],
)
def test_what_is_not_there_is_one_line(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        freeze(model(), [name])
    assert "\n" not in str(raised.value)


def test_something_has_to_be_left_to_train() -> None:
    made = model()
    freeze(made, ["backbone", "head"])
    with pytest.raises(UserError, match=r"no weight of the model is left to train: freeze less of it"):
        TrainingModule(made, num_classes=CLASSES).prepare(1)


def test_a_run_leaves_the_frozen_part_alone(tmp_path: Path) -> None:
    settings = {
        "recipe": "trades,awp",
        "model": {"name": "small_bn_cnn", "width": 3, "freeze": ["backbone"]},
        "optimizer": {"name": "sgd", "layer_decay": 0.5, "decay_norms_and_biases": False},
    }
    whole = small_fit(tmp_path / "whole", trainer={"max_epochs": 2, "accumulate": 2, "block": 8}, **settings)
    trained = load_file(whole.path / "predictor" / "model.safetensors")
    start = small_fit(
        tmp_path / "part", trainer={"max_epochs": 2, "max_steps": 1, "accumulate": 2, "block": 8}, **settings
    )
    barely = load_file(start.path / "predictor" / "model.safetensors")
    moved = {name for name, value in trained.items() if not torch.equal(value, barely[name])}
    assert moved == {"model.head.weight", "model.head.bias"}
