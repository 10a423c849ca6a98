"""Separable reweighted adversarial training, for long tails."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step
from poise_recipes.projection.sup_con import supervised_contrast
from poise_recipes.reweighting.effective_number import inverse_effective_number


class SRAT(Recipe):
    """Weigh classes late, and keep their attacked features apart: Σ w_i·ℓ_i/B + λ·Σ s_i/A.

    Inputs are [B, *input]; z [B, D] are the normalised features of those trained on, the attacked ones. s_i is the
    mean of -log softmax(z_i·z_a/τ), a ≠ i over the batch of all ranks, over the keys that share the anchor's class,
    and A is the number of anchors that have such a key. Keys are positives by the product of targets [B, C], so of
    mixed rows in part. w_i = Σ_c t_c·w_c from the share `defer` of the run on, w_c ∝ (1-b)/(1-b^n_c) with
    Σ_c w_c = C, and 1 before. Where no member has an objective or attacks it brings `pgd_at` and `pgd`.

    Source: Wang et al., Imbalanced Adversarial Training with Reweighting, 2021, arXiv 2107.13639. Verified is what
    the abstract says: that reweighting alone hurts under attacks, and that a term which separates features mends it.
    Departures from the authors' code: none was found, so the form of the term (Khosla et al., Supervised Contrastive
    Learning, 2020, arXiv 2004.11362, without a second view and a projection), τ and λ are chosen here; weights and
    deferral are those of Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019,
    arXiv 1906.07413 (from epoch 160 of 200 on). The mean over the batch is not divided by its weights: a batch of
    frequent classes counts little. A class without training examples has weight zero.

    Args:
        separation: λ; 0 leaves the weights alone.
        temperature: τ.
        beta: b; 0 weighs all classes alike, 1 by 1/n_c.
        defer: share of the run, in [0, 1], before classes are weighed.
    """

    paper = "Wang et al., Imbalanced Adversarial Training with Reweighting, 2021, arXiv 2107.13639"
    provides: ClassVar[frozenset[str]] = frozenset({"class_prior"})
    needs: ClassVar[frozenset[str]] = frozenset({"attack", "class_counts", "features"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"class_prior"})  # classes would be made up for twice
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd_at": {}, "pgd": {}}
    relative: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a gather, and the sum in its backward
    class_weight: Tensor

    def __init__(
        self,
        separation: Annotated[float, Ge(0)] = 1.0,
        temperature: Annotated[float, Gt(0)] = 0.1,
        beta: Annotated[float, Ge(0), Le(1)] = 0.9999,
        defer: Annotated[float, Ge(0), Le(1)] = 0.8,
    ) -> None:
        super().__init__()
        self.separation = separation
        self.temperature = temperature
        self.beta = beta
        self.defer = defer

    def setup(self, task: Task, model: Classifier) -> None:
        """The weight of each class."""
        if task.class_counts is None:
            raise ValueError("the class counts are not known")
        weight = inverse_effective_number(task.class_counts, self.beta)
        self.register_buffer("class_weight", weight * len(weight) / weight.sum())

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"] | None:
        """The weight of each example's target [B], once it is time."""
        if step.progress < self.defer:
            return None
        return batch.target @ self.class_weight.to(batch.target.dtype)

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        """λ times the mean separation of the anchors of all ranks that have a positive key."""
        features = outcome.on.features
        if features is None:
            raise ValueError("the model gives no features")
        z = F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)
        target = batch.target.to(z.dtype)
        keys, key_target = step.ranks.gather(torch.cat([z, target], 1)).split([z.shape[1], target.shape[1]], 1)
        itself = torch.arange(len(z), device=z.device) + step.ranks.rank * len(z)
        contrast = supervised_contrast(z, target, keys, key_target, itself, self.temperature)
        return self.separation * step.ranks.size * contrast.sum() / paired(key_target).sum().clamp(min=1)


def paired(target: Float[Tensor, "N C"]) -> Bool[Tensor, " N"]:
    """Which rows share a class, at least in part, with another row."""
    holds = target > 0
    return (holds & (holds.sum(0) > 1)).any(1)
