"""Built-in models and what `build` makes of a user's."""

import pytest
import torch
from torch import Tensor, nn

from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.models.lookup import build
from poise.models.mlp import mlp
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.small_cnn import small_cnn

IMAGES = [(1, 8, 8), (3, 9, 13), (1, 28, 28), (3, 32, 32)]


@pytest.mark.parametrize("make", [small_cnn, small_bn_cnn, mlp])
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
