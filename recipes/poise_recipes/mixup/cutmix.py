"""CutMix: paste a piece of another picture."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes.mixup.pairing import pairs


class CutMix(Recipe):
    """Paste a box of another picture into each, and give targets t the shares of the area: t ← λ·t + (1-λ)·t_partner.

    Pictures [B, channels, H, W], targets [B, C]. The box has sides √(1-λ₀) of the picture's, λ₀ ~ Beta(α, α), around
    an evenly drawn pixel; what hangs over the border is cut off, and λ is the share of the area that is left outside.
    Rows are paired inside their block, each with another; further views are given the same boxes.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019,
    arXiv 1905.04899, equations 1 and 2. Departures from the authors' code: each row has its own box, λ and turn to be
    mixed (one of each for the whole batch there; the same expected loss, with less variance), and no row is its own
    partner. Theirs mixes half of the batches on CIFAR (probability 0.5) and all on ImageNet.

    Args:
        alpha: of the Beta distribution.
        probability: of a row to be mixed.
    """

    paper = (
        "Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019, "
        "arXiv 1905.04899"
    )
    provides: ClassVar[frozenset[str]] = frozenset({"mixed"})
    after: ClassVar[frozenset[str]] = frozenset({"views"})
    accepts: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(self, alpha: Annotated[float, Gt(0)] = 1.0, probability: Annotated[float, Ge(0), Le(1)] = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.probability = probability

    def mix(self, batch: Batch, step: Step) -> Batch:
        """The batch with boxes of other rows pasted in."""
        share, partner = pairs(batch, step, self.alpha)
        u = step.uniform(batch, batch.x.new_empty(len(batch), 3), "boxes")
        share = share.masked_fill(u[:, 2] >= self.probability, 1.0)
        box = boxes(share, u[:, :2], batch.x.shape[2], batch.x.shape[3])
        outside = 1 - box.to(share.dtype).mean((1, 2, 3))
        return batch.blend(partner, outside, lambda x: torch.where(box, x[partner], x))


def boxes(
    share: Float[Tensor, " B"], centre: Float[Tensor, "B 2"], height: int, width: int
) -> Bool[Tensor, "B 1 {height} {width}"]:
    """Where each row's box is: sides √(1-share) of the picture's, rounded down to even numbers, cut at the border.

    Args:
        share: λ₀ in [0, 1], the share of the picture to be left outside.
        centre: in [0, 1), down and across.
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.
    """
    side = (1 - share).sqrt()
    down = _inside(side, centre[:, 0], height)
    across = _inside(side, centre[:, 1], width)
    return (down[:, :, None] & across[:, None, :])[:, None]


def _inside(side: Tensor, centre: Tensor, size: int) -> Tensor:
    """Which of an axis's pixels [B, size] are nearer to the centre pixel than half a side."""
    half, middle = (size * side / 2).floor()[:, None], (size * centre).floor()[:, None]
    pixel = torch.arange(size, dtype=side.dtype, device=side.device)
    return (middle - half <= pixel) & (pixel < middle + half)
