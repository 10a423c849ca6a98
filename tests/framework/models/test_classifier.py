"""Classifier: its passes, its transforms, and what it makes of other people's networks."""

import copy

import pytest
import torch
from torch import Tensor, nn

from poise.errors import UserError
from poise.models.classifier import Classifier


class Nested(nn.Module):
    """A head deep inside, a parameter of the root's own, dropout by flag, a batch norm."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.body = nn.ModuleDict({"pool": nn.AdaptiveAvgPool2d(1), "fc": nn.Linear(4, num_classes)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.conv(x * self.scale)))
        h = torch.dropout(self.relu(h), 0.5, self.training)
        return self.body["fc"](self.body["pool"](h).flatten(1))


class Tempered(nn.Module):
    """A Linear layer that is not the last thing."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 3)
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.fc(self.hidden(x)) ** 2, 1)


def _x(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def _plain(**arguments: object) -> Classifier:
    backbone = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(backbone, nn.Linear(4, 3), **arguments)


def test_forward_is_head_of_backbone_of_normalised_input_in_float64() -> None:
    model = _plain(mean=[0.1, 0.4], std=[0.5, 2.0]).double()
    x = _x(6, 2, 8, 8).double()
    by_hand = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.4) / 2.0], 1)
    # the statistics were given as float32
    torch.testing.assert_close(model(x), model.head(model.backbone(by_hand)), rtol=1e-6, atol=1e-7)
    output = model.run(x)
    assert torch.equal(output.logits, model(x))
    assert torch.equal(output.logits, model.head(output.features))
    assert output.layers == {}
    assert model.feature_width == 4


def test_statistics_broadcast_over_rows_of_features_too() -> None:
    model = Classifier(nn.Identity(), nn.Linear(3, 2), mean=[1.0, 2.0, 3.0], std=2.0)
    x = _x(5, 3)
    assert torch.equal(model.normalise(x), (x - torch.tensor([1.0, 2.0, 3.0])) / 2)


def test_transforms_apply_in_order_and_reach_the_logits() -> None:
    model = _plain(mean=0.5, std=0.25, layer_names=("0", "1"))
    x, seen = _x(4, 2, 8, 8), []

    def transform(name: str, h: Tensor) -> Tensor:
        seen.append((name, tuple(h.shape)))
        return h + 1.0

    output = model.run(x, transform, keep=True)
    assert seen == [("input", (4, 2, 8, 8)), ("0", (4, 4, 6, 6)), ("1", (4, 4, 6, 6))]
    conv = model.backbone[0](model.normalise(x + 1.0)) + 1.0
    relu = torch.relu(conv) + 1.0
    assert torch.equal(output.layers["0"], conv)
    assert torch.equal(output.layers["1"], relu)
    assert torch.equal(output.logits, model.head(relu.mean((2, 3))))
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_after_an_error() -> None:
    model = _plain(layer_names=("0",))

    def transform(name: str, h: Tensor) -> Tensor:
        if name == "0":
            raise RuntimeError("stop")
        return h

    with pytest.raises(RuntimeError, match="stop"):
        model.run(_x(2, 2, 8, 8), transform)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_used_twice_is_transformed_at_its_first_run() -> None:
    model = Classifier.wrap(Nested(), 3, _x(2, 1, 8, 8)).eval()
    names = []
    model.run(_x(2, 1, 8, 8), lambda name, h: names.append(name) or h)
    assert names == ["input", "conv", "norm", "relu"]


def test_a_layer_that_gives_no_single_tensor_is_named() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][:, -1]

    model = Classifier(Last(), nn.Linear(5, 2), layer_names=("rnn",))
    with pytest.raises(UserError, match=r"layer 'rnn' \(GRU\) gives a tuple, not one tensor"):
        model.run(_x(2, 3, 4), keep=True)
    assert Classifier.wrap(Last(), 2).layer_names == ()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UserError, match=r"no sub-module '00'"):
        _plain(layer_names=("00",))
    with pytest.raises(UserError, match="must be finite, and std positive"):
        _plain(std=0.0)
    with pytest.raises(UserError, match="mean has 2 values and std 3"):
        _plain(mean=[0.0, 0.0], std=[1.0, 1.0, 1.0])


@pytest.mark.parametrize("given", [True, False], ids=["example", "no-example"])
def test_wrapped_network_is_the_same_function_in_float64(given: bool) -> None:
    network = Nested().double()
    model = Classifier.wrap(network, 3, _x(2, 1, 8, 8).double() if given else None)
    x = _x(5, 1, 8, 8).double()
    network.eval(), model.eval()
    assert model.head is network.body["fc"]
    assert model.feature_width == 4
    assert torch.equal(model(x), network(x))
    assert torch.equal(model.head(model.backbone(x)), network(x))
    output = model.run(x, keep=True)
    assert output.features.shape == (5, 4)
    assert set(output.layers) == {"conv", "norm", "relu"}


def test_wrapping_leaves_the_network_and_its_modes_alone() -> None:
    network = Nested()
    network.norm.eval()
    before = copy.deepcopy(network.state_dict())
    children = dict(network.named_modules())
    Classifier.wrap(network, 3)(_x(4, 1, 8, 8)[:0].new_zeros(2, 1, 8, 8))
    assert dict(network.named_modules()) == children
    assert network.training
    assert not network.norm.training
    network.norm.train()
    Classifier.wrap(network, 3, _x(2, 1, 8, 8))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_parameters_and_buffers_are_the_networks_own() -> None:
    network = Nested()
    model = Classifier.wrap(network, 3, _x(2, 1, 8, 8))
    assert {id(p) for p in model.parameters()} == {id(p) for p in network.parameters()}
    assert len(list(model.parameters())) == len(list(network.parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    model(_x(8, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    model.eval(), network.eval()
    x = _x(3, 1, 8, 8)
    assert int(network.norm.num_batches_tracked) == 1
    assert torch.equal(model(x), network(x))
    model.double()
    assert network.scale.dtype == torch.float64
    assert torch.equal(model(x.double()), network(x.double()))


def test_modes_reach_what_the_backbone_does_by_flag_and_its_batch_norms() -> None:
    model = Classifier.wrap(Nested(), 3, _x(2, 1, 8, 8))
    x = _x(8, 1, 8, 8)
    model.train()
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert not any(module.training for module in model.modules())
    counted = int(model.backbone.norm.num_batches_tracked)
    assert torch.equal(model(x), model(x))
    assert int(model.backbone.norm.num_batches_tracked) == counted == 2


def test_a_deep_copy_stands_on_its_own() -> None:
    network = Nested()
    model = Classifier.wrap(network, 3)
    twin = copy.deepcopy(model).eval()
    x = _x(3, 1, 8, 8)
    expected = model.eval()(x)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert torch.equal(model(x), expected)
    assert not torch.equal(twin(x), expected)
    assert torch.equal(twin(x), twin.head(twin.backbone(x)))


def test_state_goes_from_one_wrapped_network_into_another() -> None:
    one, other = (Classifier.wrap(Nested(), 3) for _ in range(2))
    one(_x(8, 1, 8, 8))
    other.load_state_dict(one.state_dict())
    x = _x(3, 1, 8, 8)
    assert torch.equal(one.eval()(x), other.eval()(x))
    by_name = {name for name, _ in one.named_parameters()}
    assert by_name == {
        "backbone.scale",
        "backbone.conv.weight",
        "backbone.conv.bias",
        "backbone.norm.weight",
        "backbone.norm.bias",
        "head.weight",
        "head.bias",
    }


def test_sequential_networks_are_cut_without_a_trial() -> None:
    calls = []
    network = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)))
    network[0].register_forward_hook(lambda *_: calls.append(1))
    model = Classifier.wrap(network, 3)
    x = _x(5, 1, 2, 2)
    assert torch.equal(model(x), network(x))
    assert len(calls) == 2
    assert model.head is network[1][2]


def test_a_network_that_is_one_linear_layer() -> None:
    network = nn.Linear(4, 3)
    model = Classifier.wrap(network, 3)
    x = _x(5, 4)
    assert torch.equal(model(x), network(x))
    assert torch.equal(model.run(x).features, x)


def test_a_network_without_a_linear_layer_is_all_backbone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Classifier.wrap(network, 3)
    x = _x(5, 1, 8, 8)
    assert torch.equal(model(x), network(x))
    assert model.backbone is network
    assert model.feature_width == 0
    assert model.run(x).features is None
    assert model.layer_names == ("0",)


def test_a_layer_that_is_not_the_last_is_no_head() -> None:
    network = Tempered()
    x = _x(5, 5)
    whole = Classifier.wrap(network, 3, x)
    assert torch.equal(whole(x), network(x))
    assert whole.feature_width == 0
    unproved = Classifier.wrap(network, 3)
    for _ in range(2):
        with pytest.raises(UserError, match=r"Tempered does more after its last Linear layer.*Identity\(\)"):
            unproved(x)


def test_a_classifier_is_wrapped_already() -> None:
    model = _plain()
    assert Classifier.wrap(model, 3) is model


def test_a_perturbed_pass_uses_the_perturbed_weights() -> None:
    model = Classifier.wrap(Nested().eval(), 3, _x(2, 1, 8, 8)).eval()
    x = _x(3, 1, 8, 8)
    moved = {name: p.detach() + 0.1 for name, p in model.named_parameters()}
    given = torch.func.functional_call(model, moved, (x,))
    twin = copy.deepcopy(model)
    twin.load_state_dict({**model.state_dict(), **moved})
    assert torch.equal(given, twin(x))
    assert not torch.equal(given, model(x))
