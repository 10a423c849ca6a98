"""Evidence for each class in place of its probability."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class Evidential(Recipe):
    """Predict a Dirichlet distribution over the probabilities, whose strength tells how much is known.

    The head gives log α [B, C] with α = 1 + exp(W·h + b), one more than the evidence. So softmax of what it gives is
    the mean α/S, S = Σ_c α_c, the prediction; attacks, other loss terms and calibrators take it as logits.
    logsumexp of it is log S: the energy score ranks by evidence, and C/S is the share that is not known. The label
    loss [B] is the expected Brier score under the distribution plus what is said for other classes:

        Σ_c (t_c - p_c)² + p_c·(1 - p_c)/(S + 1) + λ·KL(Dir(1 + (1 - t)·(α - 1)) ‖ Dir(1))

    where λ = weight·min(1, epoch/anneal), for targets t [B, C]. Soft ones, mixed or smoothed, are taken as they are:
    the first two terms are the expected Brier score to a soft label, and of each class's evidence the share 1 - t_c
    speaks for others.

    Source: Sensoy et al., Evidential Deep Learning to Quantify Classification Uncertainty, 2018, arXiv 1806.01768,
    equation 5. Departures from the authors' code: evidence is the exponential, which it offers beside ReLU and calls
    the better one, without its bounds of e^±10; λ rises by the epoch, as in the paper, where their code raises it by
    the step. Soft targets are not theirs. Published is weight = 1, for hundreds of steps an epoch: where there are few,
    the last term wins before anything is learnt, and predictions stay uniform.

    Args:
        weight: of the last term.
        anneal: epochs until it counts in full; published is 10; 0 is from the start.
    """

    paper = "Sensoy et al., Evidential Deep Learning to Quantify Classification Uncertainty, 2018, arXiv 1806.01768"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, weight: Annotated[float, Ge(0)] = 0.02, anneal: Annotated[int, Ge(0)] = 10) -> None:
        super().__init__()
        self.weight = weight
        self.anneal = anneal

    def head(self, in_features: int, num_classes: int) -> nn.Module:
        """Features [B, D] to log α [B, C]."""
        return nn.Sequential(nn.Linear(in_features, num_classes), nn.Softplus())

    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> Float[Tensor, " B"]:
        """The expected Brier score and the evidence for other classes [B]."""
        alpha = logits.exp()
        share = min(1.0, step.epoch / self.anneal) if self.anneal else 1.0
        return expected_brier(alpha, target) + self.weight * share * distance_to_none(1 + (1 - target) * (alpha - 1))


def expected_brier(alpha: Float[Tensor, "B C"], target: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """The mean of Σ_c (t_c - π_c)² over π drawn from Dir(α)."""
    strength = alpha.sum(1, keepdim=True)
    p = alpha / strength
    return ((target - p).square() + p * (1 - p) / (strength + 1)).sum(1)


def distance_to_none(alpha: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """KL(Dir(α) ‖ Dir(1)) in nats, >= 0, and 0 where α is one: of what there is no evidence."""
    strength = alpha.sum(1)
    normaliser = strength.lgamma() - alpha.lgamma().sum(1) - torch.full_like(strength, alpha.shape[1]).lgamma()
    return normaliser + ((alpha - 1) * (alpha.digamma() - strength.digamma()[:, None])).sum(1)
