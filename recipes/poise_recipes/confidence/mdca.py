"""The difference between mean probability and frequency of each class as a penalty."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class MDCA(Recipe):
    """Add β·Σ_c |mean_i p_ic - mean_i t_ic|/C: in each batch, classes are to be as probable as they are frequent.

    p [B, C] are the predictions on the inputs trained on, the attacked ones where there are any, as raw logits have
    them; t [B, C] the targets, soft ones by their shares; means are over all ranks' examples. Costs no pass. It looks
    at the batch's margins alone: with fewer examples than several times C those are mostly chance.

    Source: Hebbalaguppe et al., A Stitch in Time Saves Nine: A Train-Time Regularizing Loss for Improved Neural Network
    Calibration, 2022, arXiv 2203.13834. Departures from the authors' code: none. They add it to the cross-entropy, to
    `focal` (with gamma=1) and to `label_smoothing` (smoothing=C/(C-1)·0.1); here the targets it sees are not smoothed,
    as there.

    Args:
        weight: β; published is 1.
    """

    paper = (
        "Hebbalaguppe et al., A Stitch in Time Saves Nine: A Train-Time Regularizing Loss for Improved Neural Network "
        "Calibration, 2022, arXiv 2203.13834"
    )
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a mean, and the one in its backward

    def __init__(self, weight: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        """β times the mean difference over the classes, the same on each rank."""
        gap = (outcome.on.logits.softmax(1) - batch.target).mean(0)
        return self.weight * step.ranks.mean(gap).abs().mean()
