"""Label smoothing."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Lt
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class LabelSmoothing(Recipe):
    """Train towards targets that leave some doubt: t ← (1 - s)·t + s/C, for targets t [B, C], soft ones too.

    The label loss alone sees the smoothed targets, whatever the objective: the cross-entropy of TRADES does, its KL
    does not. Attacks are left the targets as they are. Smoothing what is mixed and mixing what is smoothed are the
    same.

    Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, arXiv 1512.00567,
    section 7; what it does to calibration: Müller et al., When Does Label Smoothing Help?, 2019, arXiv 1906.02629.
    Departures: none; code that leaves the label 1 - s' and gives each other class s'/(C - 1) does the same with
    s = s'·C/(C - 1).

    Args:
        smoothing: s, the share of the target that is spread over all classes, the label's own among them.
    """

    paper = "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, arXiv 1512.00567"
    after: ClassVar[frozenset[str]] = frozenset({"estimated_targets"})  # what others put in their place is smoothed too

    def __init__(self, smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1) -> None:
        super().__init__()
        self.smoothing = smoothing

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Logits as they are, targets smoothed."""
        return logits, smoothed(target, self.smoothing)


def smoothed(target: Float[Tensor, "B C"], smoothing: float) -> Float[Tensor, "B C"]:
    """Distributions over the classes, mixed with `smoothing` of the uniform one."""
    return (1 - smoothing) * target + smoothing / target.shape[1]
