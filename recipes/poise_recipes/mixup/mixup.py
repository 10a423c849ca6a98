"""mixup: train between examples."""

from typing import Annotated, ClassVar

from annotated_types import Ge

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes.mixup.pairing import pairs


class Mixup(Recipe):
    """Train between examples: x ← λ·x + (1-λ)·x_partner, and targets t alike, with λ ~ Beta(α, α) for each row.

    Inputs [B, *input], targets [B, C]; rows are paired inside their block, each with another, and further views
    are mixed alike.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, arXiv 1710.09412, section 2. Departures
    from the authors' code: each row has its own λ (one for the whole batch there; the same expected loss, with less
    variance), and no row is its own partner.

    Args:
        alpha: of the Beta distribution; 0 mixes nothing.
    """

    paper = "Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, arXiv 1710.09412"
    provides: ClassVar[frozenset[str]] = frozenset({"mixed"})
    after: ClassVar[frozenset[str]] = frozenset({"views"})
    accepts: ClassVar[frozenset[str]] = frozenset({"image", "tabular"})

    def __init__(self, alpha: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def mix(self, batch: Batch, step: Step) -> Batch:
        """The batch mixed with itself."""
        if self.alpha == 0:
            return batch
        share, partner = pairs(batch, step, self.alpha)
        own = share.view(-1, *[1] * (batch.x.ndim - 1))
        return batch.blend(partner, share, lambda x: own * x + (1 - own) * x[partner])
