"""What a fit is judged by: numbers of which less is better, on probabilities in blocks with classes first."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Selector = Callable[[Sequence[Tensor], Sequence[Tensor]], float]

BINS = 15
TINY = 1e-38  # what is less likely counts as this much; single precision has no less


def proper_score(probability: Sequence[Float[Tensor, "C _"]], label: Sequence[Int[Tensor, " _"]]) -> float:
    """The negative log-likelihood of the labels, in nats."""
    own = torch.cat([each.gather(0, of[None])[0] for each, of in zip(probability, label, strict=True)])
    return -float(own.clamp(min=TINY).double().log().mean())


def top_label(probability: Sequence[Float[Tensor, "C _"]], label: Sequence[Int[Tensor, " _"]]) -> float:
    """The debiased error of the confidence in the predicted class, in 15 bins that hold as many examples each.

    Source: Kumar, Liang, Ma, Verified Uncertainty Calibration, 2019, arXiv 1909.10155: a bin's gap |confidence -
    accuracy| is corrected by twice it less what it would be on average, were this gap the true one and accuracy
    normal about it; in closed form. May be negative.
    """
    best = [each.max(0) for each in probability]
    confidence, order = torch.cat([value for value, _ in best]).double().sort(stable=True)
    right = torch.cat([predicted == of for (_, predicted), of in zip(best, label, strict=True)])[order].double()
    size = len(order)
    edges = [size * place // BINS for place in range(BINS + 1)]
    counts = confidence.new_tensor(edges).diff()
    mean, accuracy = (
        torch.stack([part.sum() for part in each.tensor_split(edges[1:-1])]) / counts.clamp(min=1)
        for each in (confidence, right)
    )
    gap = (mean - accuracy).abs()
    spread = (accuracy * (1 - accuracy) / counts.clamp(min=1)).sqrt()
    ratio = gap / spread.clamp(min=1e-300)
    expected = spread * math.sqrt(2 / math.pi) * (-(ratio**2) / 2).exp() + gap * (ratio / math.sqrt(2)).erf()
    return float(counts @ (2 * gap - expected)) / size


def classwise(probability: Sequence[Float[Tensor, "C _"]], label: Sequence[Int[Tensor, " _"]]) -> float:
    """The calibration error of each class's probability, in 15 bins of equal width: the mean over classes, in 0…1."""
    classes = len(probability[0])
    edges = torch.arange(1, BINS, dtype=probability[0].dtype, device=probability[0].device) / BINS
    first = torch.arange(classes, device=edges.device)[:, None] * BINS
    gaps = torch.zeros(classes * BINS, dtype=torch.float64, device=edges.device)
    for each, of in zip(probability, label, strict=True):
        place = torch.bucketize(each.contiguous(), edges).add_(first)
        gap = each.double().scatter_add(0, of[None], each.new_full((1, len(of)), -1.0).double())
        gaps += torch.bincount(place.flatten(), gap.flatten(), len(gaps))
    return float(gaps.abs().sum()) / (classes * sum(len(of) for of in label))


SELECTORS: dict[str, Selector] = {"top_label": top_label, "classwise": classwise, "proper_score": proper_score}
