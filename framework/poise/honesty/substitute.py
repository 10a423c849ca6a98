"""A small network that answers as another does: what an attacker trains who sees answers alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from poise.batch import as_input
from poise.data.dataset import Arrays
from poise.models.mlp import mlp
from poise.step import key

MOST = 2048  # inputs
EPOCHS = 10
BATCH = 64
WIDTH = 256


def substitute(model: nn.Module, data: Arrays, num_classes: int, seed: int) -> nn.Module:
    """A perceptron in evaluation mode, distilled from a model's probabilities on some inputs; labels are not looked at.

    Papernot et al., Practical Black-Box Attacks against Machine Learning, 2017, arXiv 1602.02697, here without their
    augmentation by the substitute's gradients.

    Args:
        model: to logits; on its device the substitute is trained.
        data: inputs, of which evenly spread ones are taken.
        num_classes: of the logits.
        seed: of weights and order.
    """
    like = next(model.parameters())
    count = min(len(data), MOST)
    x = as_input(data.fetch(torch.arange(count) * len(data) // count)["x"].to(like.device)).to(like.dtype)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(key(seed, "substitute"))
        own = mlp(num_classes, tuple(x.shape[1:]), width=WIDTH).to(like)
        _distil(own, x, _answers(model, x))
    return own.eval()


@torch.no_grad()
def _answers(model: nn.Module, x: Float[Tensor, "N *input"]) -> Float[Tensor, "N C"]:
    return torch.cat([model(part).softmax(1) for part in x.split(BATCH)])


def _distil(own: nn.Module, x: Float[Tensor, "N *input"], answers: Float[Tensor, "N C"]) -> None:
    optimizer = torch.optim.Adam(own.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).to(x.device).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(own(x[rows]), answers[rows]).backward()
            optimizer.step()
