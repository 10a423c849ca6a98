import copy

import pytest
import torch
from torch import nn

from poise.errors import UserError
from poise.modes import check_mode, flags_given_back, frozen_statistics, in_mode


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(12, 2))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_every_flag_is_set_and_comes_back(mode: str) -> None:
    model = network()
    model[1].eval()
    with in_mode(model, mode):
        assert {module.training for module in model.modules()} == {mode == "train"}
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]


def test_flags_come_back_after_an_error() -> None:
    model = network()
    with pytest.raises(KeyError), in_mode(model, "eval"):
        raise KeyError
    assert all(module.training for module in model.modules())


def test_a_misspelled_mode_is_named() -> None:
    with pytest.raises(UserError, match=r"mode='evla' is neither 'eval' nor 'train'\. Did you mean 'eval'\?"):
        check_mode("evla")


@pytest.mark.parametrize("momentum", [0.1, None])
def test_frozen_statistics_use_the_batch_and_keep_the_buffers(momentum: float | None) -> None:
    model = network()
    model[1].momentum = momentum
    model(torch.rand(8, 1, 4, 4))
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(8, 1, 4, 4) * 9
    hidden = model[0](x)
    with frozen_statistics(model):
        normalised = model[1](hidden)
    expected = nn.functional.batch_norm(hidden, None, None, model[1].weight, model[1].bias, training=True)
    torch.testing.assert_close(normalised, expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(x)
    assert model[1].num_batches_tracked == before["1.num_batches_tracked"] + 1
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


def test_frozen_statistics_survive_values_that_are_not_finite() -> None:
    model = network()
    with frozen_statistics(model):
        model[:2](torch.full((2, 1, 4, 4), float("nan")))
    assert model[1].running_mean.isfinite().all()


def test_flags_are_given_back_one_by_one() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    model[1].eval()
    before = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    with flags_given_back(model):
        model.eval().requires_grad_(False)
    assert ([module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]) == before


def test_frozen_statistics_in_evaluation_mode_are_the_running_ones() -> None:
    model = network()
    model(torch.rand(8, 1, 4, 4))
    model.eval()
    x = torch.rand(4, 1, 4, 4)
    expected = model(x)
    with frozen_statistics(model):
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_frozen_statistics_leave_a_graph_that_can_be_followed_later() -> None:
    model = network()
    x = torch.rand(8, 1, 4, 4)
    with frozen_statistics(model):
        frozen = model(x).sum()
    (frozen + model(x).sum()).backward()
    assert model[0].weight.grad.isfinite().all()


def test_a_batch_norm_that_tracks_nothing_stays_so() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))
    with frozen_statistics(model):
        model(torch.rand(4, 2))
    assert model[0].track_running_stats is False
    assert model[0].running_mean is None
