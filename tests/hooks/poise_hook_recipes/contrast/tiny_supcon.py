"""Supervised contrastive learning."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Passes, Recipe, Task
from poise.step import Step


class TinySupcon(Recipe):
    """Pull together the projected features of examples that share a class, over two views and all ranks.

    The loss [B] is the mean of an example's two anchors' and the label loss of a classifier on detached features
    [B, D]. Soft targets [B, C] give soft positives, by the product of two examples' targets.

    Source: Khosla et al., Supervised Contrastive Learning, 2020, arXiv 2004.11362, equation 2.

    Args:
        temperature: τ > 0.
        width: of the projection.
    """

    paper = "Khosla et al., Supervised Contrastive Learning, 2020, arXiv 2004.11362"
    provides: ClassVar[frozenset[str]] = frozenset({"clean"})
    needs: ClassVar[frozenset[str]] = frozenset({"views", "features"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"tiny_views": {}}
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a gather, and the sum in its backward

    def __init__(self, temperature: float = 0.1, width: int = 8) -> None:
        super().__init__()
        self.temperature = temperature
        self.width = width

    def passes(self) -> Passes:
        return Passes(forwards=1, full_backwards=1)

    def setup(self, task: Task, model: Classifier) -> None:
        self.projection = nn.Linear(model.feature_width, self.width)

    def objective(self, batch: Batch, step: Step) -> Outcome:
        clean, view = step.forward(batch.x, batch), step.forward(batch.views[0], batch)
        if clean.features is None or view.features is None:
            raise ValueError("the model gives no features")
        z = F.normalize(self.projection(torch.cat([clean.features, view.features])), dim=1)
        target = torch.cat([batch.target, batch.target])
        everywhere = step.ranks.gather(torch.cat([z, target], 1))
        contrast = supcon(z, target, *everywhere.split([self.width, target.shape[1]], 1), step, self.temperature)
        label_loss = step.loss(step.model.head(clean.features.detach()), batch)
        return Outcome(contrast.view(2, -1).mean(0) + label_loss, clean=clean)


def supcon(
    z: Float[Tensor, "n D"],
    target: Float[Tensor, "n C"],
    keys: Float[Tensor, "N D"],
    key_target: Float[Tensor, "N C"],
    step: Step,
    temperature: float,
) -> Float[Tensor, " n"]:
    """The loss of this rank's anchors [n] against all ranks' keys [N]."""
    own = torch.arange(len(z), device=z.device)[:, None] + step.ranks.rank * len(z)
    similarity = (z @ keys.T / temperature).scatter(1, own, -torch.inf)
    log_p = similarity.log_softmax(1).scatter(1, own, 0.0)
    positive = (target @ key_target.T).scatter(1, own, 0.0)
    return -(positive * log_p).sum(1) / positive.sum(1).clamp(min=1e-6)
