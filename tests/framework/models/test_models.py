"""Built-in models and what `build` makes of a user's."""

from collections.abc import Mapping
from functools import partial
from itertools import count, takewhile

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poise import registry
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.models.lookup import build
from poise.models.mlp import mlp
from poise.models.preact_resnet18 import preact_resnet18
from poise.models.resnet18 import resnet18
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.small_cnn import small_cnn
from poise.models.wide_resnet import wide_resnet
from poise.models.wrn_28_10 import wrn_28_10
from poise.models.wrn_34_10 import wrn_34_10

IMAGES = [(1, 8, 8), (3, 9, 13), (1, 28, 28), (3, 32, 32)]


NETWORKS = [small_cnn, small_bn_cnn, mlp, resnet18, preact_resnet18, partial(wide_resnet, depth=10, width=1)]


@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: registry.name_of(getattr(make, "func", make)))
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_every_model_takes_small_images(make: object, shape: tuple[int, ...]) -> None:
    model = build(make, 7, shape)  # type: ignore[arg-type]
    x = torch.rand(3, *shape)
    output = model.run(x, keep=True)
    assert output.logits.shape == (3, 7)
    assert output.features.shape == (3, model.feature_width)
    assert tuple(output.layers) == model.layer_names
    model.double()
    assert model(x.double()).dtype == torch.float64


def test_batch_norm_is_where_the_name_says() -> None:
    norms = {
        make: sum(isinstance(m, nn.BatchNorm2d) for m in make(2, (1, 8, 8)).modules())
        for make in (small_cnn, small_bn_cnn)
    }
    assert norms == {small_cnn: 0, small_bn_cnn: 4}


def test_mlp_takes_tabular_data_as_they_are() -> None:
    model = mlp(2, (5,), width=6, depth=3)
    assert model.layer_names == ("layer1", "layer2", "layer3")
    x = torch.randn(4, 5)
    h = x
    for layer in (model.backbone.layer1, model.backbone.layer2, model.backbone.layer3):
        h = torch.relu(h @ layer[0].weight.T + layer[0].bias)
    torch.testing.assert_close(model(x), h @ model.head.weight.T + model.head.bias)


def test_inputs_that_a_model_cannot_take_are_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"model=small_cnn takes images .* inputs are \(5,\): use model=mlp"):
        small_cnn(2, (5,))
    with pytest.raises(UserError, match=r"model=small_bn_cnn takes images of 8x8 or more, the data's are 7x9"):
        small_bn_cnn(2, (1, 7, 9))
    with pytest.raises(UserError, match=r"model\.depth=0"):
        mlp(2, (5,), depth=0)


def test_weights_come_from_the_global_generator_alone() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(small_cnn, 3, (1, 8, 8)).parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    torch.manual_seed(0)
    small_cnn(3, (1, 8, 8))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    build(small_cnn, 3, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_build_passes_parameters() -> None:
    assert build(mlp, 2, (5,), width=9).feature_width == 9
    with pytest.raises(UserError, match=r"model\.widht: mlp takes .*Did you mean 'width'"):
        build(mlp, 2, (5,), widht=9)


def test_build_wraps_a_ready_module_and_trains_it_in_place() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    model = build(network, 2, (5,))
    assert isinstance(model, Classifier)
    assert model.head is network[2]
    with pytest.raises(UserError, match=r"model\.width: a Sequential that is already built"):
        build(network, 2, (5,), width=3)


def test_build_takes_any_function_of_the_users() -> None:
    assert build(lambda: nn.Linear(5, 2), 2, (5,)).feature_width == 5
    assert build(lambda num_classes: nn.Linear(5, num_classes), 3, (5,)).feature_width == 5
    assert build(lambda **kwargs: nn.Linear(5, kwargs["num_classes"]), 3, (5,)).head.out_features == 3
    with pytest.raises(UserError, match="gives a int, not a torch.nn.Module"):
        build(lambda: 3, 2, (5,))  # type: ignore[arg-type, return-value]


def test_build_refuses_what_does_not_fit_the_data() -> None:
    with pytest.raises(UserError, match=r"gives shape \(2, 3\) .* the data have 2 classes"):
        build(nn.Linear(5, 3), 2, (5,))
    with pytest.raises(UserError, match=r"Linear cannot take inputs of shape \(4,\)"):
        build(nn.Linear(5, 3), 3, (4,))


@pytest.mark.parametrize(
    ("make", "parameters"),
    [(resnet18, 11_173_962), (preact_resnet18, 11_172_170), (wrn_28_10, 36_479_194), (wrn_34_10, 46_160_474)],
)
def test_residual_networks_are_as_large_as_published(make: object, parameters: int) -> None:
    with torch.device("meta"):
        model = make(10, (3, 32, 32))  # type: ignore[operator]
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.layer_names in (("layer1", "layer2", "layer3", "layer4"), ("block1", "block2", "block3"))


def by_hand(weights: Mapping[str, Tensor], x: Tensor, stages: str, norm: str, head: str) -> Tensor:
    """Logits of a residual network in evaluation mode, from its published names alone."""

    def conv(name: str, h: Tensor, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        return F.conv2d(h, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def bn(name: str, h: Tensor) -> Tensor:
        mean, var, scale, shift = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (h - mean) / (var + 1e-5).sqrt() * scale + shift

    h = conv("conv1", x)
    h = bn("bn1", h).relu() if norm == "first" else h
    for stage in takewhile(lambda n: any(name.startswith(stages.format(n, 0)) for name in weights), count(1)):
        blocks = (stages.format(stage, n) for n in count())
        for number, b in enumerate(takewhile(lambda b: f"{b}.conv1.weight" in weights, blocks)):
            stride = 2 if stage > 1 and number == 0 else 1
            if norm == "first":
                inner = bn(f"{b}.bn2", conv(f"{b}.conv2", bn(f"{b}.bn1", conv(f"{b}.conv1", h, stride)).relu()))
                wide = f"{b}.shortcut.0.weight" in weights
                h = (inner + (bn(f"{b}.shortcut.1", conv(f"{b}.shortcut.0", h, stride)) if wide else h)).relu()
            else:
                seen = bn(f"{b}.bn1", h).relu()
                wide = f"{b}.convShortcut.weight" in weights
                around = conv(f"{b}.convShortcut", seen, stride) if wide else h
                h = around + conv(f"{b}.conv2", bn(f"{b}.bn2", conv(f"{b}.conv1", seen, stride)).relu())
    h = h if norm == "first" else bn(norm, h).relu()
    return h.mean((2, 3)) @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]


@pytest.mark.parametrize(
    ("make", "stages", "norm", "head"),
    [
        (resnet18, "layer{}.{}", "first", "linear"),
        (preact_resnet18, "layer{}.{}", "bn", "linear"),
        (partial(wide_resnet, depth=16, width=2), "block{}.layer.{}", "bn1", "fc"),
    ],
    ids=["resnet18", "preact_resnet18", "wide_resnet"],
)
def test_residual_networks_under_published_names(make: object, stages: str, norm: str, head: str) -> None:
    torch.manual_seed(0)
    model = make(5, (2, 16, 16), mean=[0.4, 0.5], std=[0.2]).double()  # type: ignore[operator]
    x = torch.rand(4, 2, 16, 16).double()
    model(x)  # the running statistics move
    own = model.eval().state_dict()
    weights = {there: own[here] for here, there in model.wrapped_names().items()}
    mean = torch.tensor([0.4, 0.5])[:, None, None]
    expected = by_hand(weights, (x - mean) / torch.tensor(0.2), stages, norm, head)
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-12)


def test_wide_residual_networks_start_as_published() -> None:
    torch.manual_seed(0)
    model = wide_resnet(3, (3, 8, 8), depth=10, width=4)
    kernel = model.backbone.block3.layer[0].conv2.weight.detach()
    assert float(kernel.std()) == pytest.approx((2 / (9 * kernel.shape[0])) ** 0.5, rel=0.01)
    assert not model.head.bias.any()


def test_residual_networks_refuse_what_does_not_fit() -> None:
    with pytest.raises(UserError, match=r"model\.mean has 3 numbers, the data's images 1 channel: give one number"):
        resnet18(3, (1, 8, 8), mean=[0.1, 0.2, 0.3])
    with pytest.raises(UserError, match=r"model\.depth=29: a wide residual network has a depth of 10, 16, 22"):
        wide_resnet(3, (1, 8, 8), depth=29)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)], ids=str)
def test_channels_last_is_the_same_function_in_another_layout(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = build(small_bn_cnn, 3, shape).double().eval(), torch.rand(4, *shape).double()
    layouts, logits = [], []
    model.backbone.block1.register_forward_hook(lambda _, inputs, h: layouts.append(h.stride(1)))
    for model.channels_last in (True, False):
        logits.append(model(x))
    assert layouts[0] == 1
    assert layouts[1] == 16
    torch.testing.assert_close(*logits, rtol=1e-12, atol=0)


def test_channels_last_is_asked_for_or_left() -> None:
    flat = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    assert not build(flat, 3, (1, 8, 8)).channels_last
    assert build(flat, 3, (1, 8, 8), channels_last=True).channels_last
    assert not build(small_cnn, 3, (1, 8, 8), channels_last=False).channels_last

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).view(len(x), -1))

    with pytest.raises(UserError, match=r"with model\.channels_last, it cannot take inputs of shape \(1, 8, 8\): view"):
        build(Views(), 3, (1, 8, 8), channels_last=True)
    with pytest.raises(UserError, match=r"model\.channels_last=true is for images .* inputs are \(5,\): leave it out"):
        build(mlp, 3, (5,), channels_last=True)
