"""A second, noisy view of each example."""

from typing import ClassVar

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class TinyViews(Recipe):
    """Add a view x + σn [B, *input], n ~ N(0, I), clipped to the valid range.

    Args:
        sigma: σ >= 0, in units of the input.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"views"})

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = sigma

    def mix(self, batch: Batch, step: Step) -> Batch:
        view = batch.x + self.sigma * step.normal(batch, batch.x, "view")
        if step.threat.low is not None:
            view = view.clamp(step.threat.low, step.threat.high)
        return batch.replace(views=(*batch.views, view))
