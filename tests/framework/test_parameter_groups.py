"""Groups of parameters: each parameter in one, factors as the formula says, steps as PyTorch makes them."""

from functools import partial

import lightning as L
import pytest
import timm as library
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from poise.console import without_chatter
from poise.models.classifier import Classifier
from poise.models.depth import layers
from poise.models.mlp import mlp
from poise.models.resnet18 import resnet18
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.wide_resnet import wide_resnet
from poise.module import TrainingModule
from poise.optimizers.adamw import adamw
from poise.optimizers.sgd import sgd
from poise.parameter_groups import ALIKE, Grouping, optimizer_over, parameter_groups

MODELS = {
    "mlp": mlp(3, (5,), width=4, depth=3),
    "small_bn_cnn": small_bn_cnn(3, (1, 8, 8), width=2),
    "wide_resnet": wide_resnet(3, (1, 8, 8), depth=16, width=1),
    "wrapped": Classifier.wrap(nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 3)), 3),
}


@settings(deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.floats(0.1, 1.0), st.booleans(), st.sets(st.integers(0, 30)))
def test_every_trained_parameter_is_in_one_group(name: str, decay: float, all_decay: bool, frozen: set[int]) -> None:
    model = MODELS[name]
    trained = [p for number, p in enumerate(model.parameters()) if number not in frozen]
    others = [nn.Parameter(torch.zeros(2, 2))]
    groups = parameter_groups(model, [*trained, *others], Grouping(decay, all_decay))
    found = [parameter for group in groups for parameter in group.parameters]
    assert sorted(map(id, found)) == sorted(map(id, [*trained, *others]))
    assert [group.lr_factor for group in groups] == sorted((group.lr_factor for group in groups), reverse=True)
    depths = layers(model.backbone)
    place = {name: depth for depth, names in enumerate(depths) for name in names}
    named = {id(parameter): name for name, parameter in model.backbone.named_parameters()}
    for group in groups:
        for parameter in group.parameters:
            inside = named.get(id(parameter))
            assert group.lr_factor == (1.0 if inside is None else decay ** (len(depths) - place[inside]))
            assert group.decays == (all_decay or parameter.ndim > 1)


def test_layers_are_blocks_from_the_input_on() -> None:
    with torch.device("meta"):
        found = layers(resnet18(10, (3, 32, 32)).backbone)
    assert found[0] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert [names[0].rpartition(".conv")[0] for names in found[1:]] == [
        f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)
    ]
    assert [names[0] for names in layers(MODELS["wrapped"].backbone)] == ["0.weight", "2.weight"]
    assert layers(MODELS["wrapped"].backbone)[0] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_factors_are_those_of_timm() -> None:
    from timm.optim import param_groups_layer_decay

    for architecture in ("test_vit", "test_resnet"):
        network = library.create_model(architecture, num_classes=3)
        model = Classifier.wrap(network, 3)
        theirs = {
            id(parameter): (group["lr_scale"], group["weight_decay"] > 0)
            for group in param_groups_layer_decay(network, weight_decay=0.1, layer_decay=0.5)
            for parameter in group["params"]
        }
        groups = parameter_groups(model, model.parameters(), Grouping(0.5, decay_norms_and_biases=False))
        ours = {id(p): (group.lr_factor, group.decays) for group in groups for p in group.parameters}
        assert {key: factor for key, (factor, _) in ours.items()} == {
            key: factor for key, (factor, _) in theirs.items()
        }
        never = {id(p) for name, p in model.backbone.named_parameters() if name in ("cls_token", "pos_embed")}
        assert {key: value for key, value in ours.items() if key not in never} == {
            key: value for key, value in theirs.items() if key not in never
        }


def test_parameters_that_are_alike_go_to_the_optimiser_as_they_are() -> None:
    model, seen = MODELS["mlp"], []

    def make(parameters: object) -> torch.optim.Optimizer:
        seen.extend(parameters)  # type: ignore[arg-type]
        return sgd(seen)

    optimizer_over(make, parameter_groups(model, model.parameters(), ALIKE))
    assert list(map(id, seen)) == list(map(id, model.parameters()))


def test_steps_are_those_of_pytorch_with_groups_made_by_hand() -> None:
    torch.manual_seed(0)
    x, label = torch.rand(8, 5).double(), torch.arange(8) % 3
    ends = []
    for by_hand in (False, True):
        torch.manual_seed(1)
        model = mlp(3, (5,), width=4, depth=2).double()
        if by_hand:
            first, second, head = model.backbone.layer1[0], model.backbone.layer2[0], model.head
            optimizer = torch.optim.SGD(
                [
                    {"params": [layer.weight], "lr": 0.5 * 0.8**depth}
                    for depth, layer in enumerate((head, second, first))
                ]
                + [
                    {"params": [layer.bias], "lr": 0.5 * 0.8**depth, "weight_decay": 0.0}
                    for depth, layer in enumerate((head, second, first))
                ],
                lr=0.5,
                momentum=0.9,
                nesterov=True,
                weight_decay=0.1,
            )
        else:
            groups = parameter_groups(model, model.parameters(), Grouping(0.8, decay_norms_and_biases=False))
            optimizer = optimizer_over(
                lambda parameters: sgd(parameters, lr=0.5, nesterov=True, weight_decay=0.1), groups
            )
            assert optimizer.param_groups[0]["lr"] == 0.5
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), label).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        ends.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=0)


class Rates(Callback):
    """Notes the learning rate of each group at each step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: object) -> None:
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_every_group_follows_the_schedule_from_epoch_to_epoch() -> None:
    module = TrainingModule(
        mlp(3, (5,), width=4, depth=2),
        num_classes=3,
        optimizer=partial(sgd, lr=0.4),
        grouping=Grouping(layer_decay=0.5, decay_norms_and_biases=False),
        schedule=lambda progress: 1.0 - progress,
        valid_range=None,
    )
    rates = Rates()
    loader = DataLoader(TensorDataset(torch.rand(12, 5), torch.arange(12) % 3), batch_size=6)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with without_chatter():
        L.Trainer(max_epochs=2, accelerator="cpu", callbacks=[rates], gradient_clip_val=0.1, **quiet).fit(
            module, loader, loader
        )
    expected = [[0.4 * 0.5 ** (n // 2) * (1 - done / 4) for n in range(6)] for done in range(4)]
    assert rates.seen == [pytest.approx(step) for step in expected]


def test_adamw_takes_groups_too() -> None:
    model = MODELS["mlp"]
    groups = parameter_groups(model, model.parameters(), Grouping(0.5, decay_norms_and_biases=False))
    found = [(group["lr"], group["weight_decay"]) for group in optimizer_over(adamw, groups).param_groups]
    assert found == [(1e-3 * 0.5**depth, decay) for depth in range(4) for decay in (1e-2, 0.0)]
