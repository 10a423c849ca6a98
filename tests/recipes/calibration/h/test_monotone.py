import torch
import torch.nn.functional as F
from torch import nn

from held_out import bent
from poise_recipes.calibration.h.monotone import CELLS, MIDDLE, Monotone
from poise_recipes.calibration.h.rows import Rows


def test_the_slopes_are_the_network() -> None:
    network = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    parameters = nn.utils.parameters_to_vector(network.parameters())
    middle = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / 10
    wanted = F.elu(network((middle.log1p() - MIDDLE)[:, None]))[:, 0] + 1
    torch.testing.assert_close(Monotone(4).steepness(parameters), wanted)


def test_it_starts_from_the_same_network_and_leaves_the_generator_alone() -> None:
    made = bent(10)
    rows, before = Rows.of(made.logits, made.label, 1.0), torch.random.get_rng_state()
    assert torch.equal(Monotone(10).start(rows), Monotone(10).start(rows))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(Monotone(10).start(rows)) == 141
