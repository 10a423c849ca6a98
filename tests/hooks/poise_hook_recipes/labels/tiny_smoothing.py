"""Label smoothing."""

from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class TinySmoothing(Recipe):
    """t ← (1 - s)·t + s/C for the label loss alone, targets [B, C].

    Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, arXiv 1512.00567.

    Args:
        smoothing: s in [0, 1].
    """

    paper = "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, arXiv 1512.00567"

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        self.smoothing = smoothing

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        return logits, (1 - self.smoothing) * target + self.smoothing / target.shape[1]
