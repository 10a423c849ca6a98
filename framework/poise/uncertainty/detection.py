"""How well a score tells strange examples from usual ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError

RECALL = 95  # percent


@dataclass(frozen=True)
class Detection:
    """How many examples are flagged at each threshold: those whose score is the threshold or higher.

    Thresholds are the different scores that there are, falling, after one that flags nothing.

    Args:
        usual: flagged ones of those that should not be, rising from 0 to all.
        strange: flagged ones of those that should be, likewise.
    """

    usual: Int[Tensor, " T"]
    strange: Int[Tensor, " T"]

    def scores(self) -> dict[str, float]:
        """All there are by name, in 0…1."""
        return {
            "auroc": self.auroc,
            "aupr_out": self.aupr_out,
            "aupr_in": self.aupr_in,
            "fpr_at_95_id_recall": self.fpr_at_95_id_recall,
            "fpr_at_95_ood_recall": self.fpr_at_95_ood_recall,
        }

    @property
    def auroc(self) -> float:
        """Probability that a strange example has the higher score of two, ties counted half."""
        return float(torch.trapezoid(_shares(self.strange), _shares(self.usual)))

    @property
    def aupr_out(self) -> float:
        """Average precision where strange examples are the positive ones; it hangs on how many of each there are."""
        return _average_precision(self.strange, self.usual)

    @property
    def aupr_in(self) -> float:
        """Average precision where usual examples are the positive ones, by the score's negative."""
        return _average_precision(*(flagged[-1] - flagged.flip(0) for flagged in (self.usual, self.strange)))

    @property
    def fpr_at_95_id_recall(self) -> float:
        """Share of the strange examples that pass where as few pass as can, 95 % of the usual ones or more.

        So it is in the code of Lee et al., 2018, arXiv 1807.03888, Sun et al., 2022, arXiv 2204.06507, and Wang et al.,
        2022, arXiv 2203.10807 (ViM), whose thresholds differ by an example.
        """
        passing = self.usual[-1] - self.usual
        last = int((100 * passing >= RECALL * self.usual[-1]).sum()) - 1
        return 1 - float(_shares(self.strange)[last])

    @property
    def fpr_at_95_ood_recall(self) -> float:
        """Share of the usual examples that are flagged where as few are as can, 95 % of the strange ones or more.

        So it is in the code of Zhang et al., 2023, arXiv 2306.09301 (OpenOOD 1.5).
        """
        first = int((100 * self.strange < RECALL * self.strange[-1]).sum())
        return float(_shares(self.usual)[first])

    def curve(self, most: int = 400) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Shares of usual and of strange examples that are flagged, at evenly spread thresholds if there are more."""
        count = min(most, len(self.usual))
        some = torch.arange(count) * (len(self.usual) - 1) // max(1, count - 1)
        return tuple(_shares(self.usual)[some].tolist()), tuple(_shares(self.strange)[some].tolist())


def detection(usual: Float[Tensor, " N"], strange: Float[Tensor, " M"]) -> Detection:
    """What scores of two kinds of examples come to; one that is no number counts as the highest.

    Raises:
        UserError: none of one kind, or something else than tensors [N] and [M].
    """
    for name, scores in (("usual", usual), ("strange", strange)):
        if check_tensor(scores, name).ndim != 1:
            raise UserError(f"{name} has shape {tuple(scores.shape)}: detection takes a score for each example.")
    if not len(usual) or not len(strange):
        raise UserError(f"{len(usual)} usual and {len(strange)} strange examples: detection needs some of both.")
    both = torch.cat([usual.double(), strange.double()]).nan_to_num(torch.inf, torch.inf, -torch.inf)
    different, place = both.unique(return_inverse=True)
    flagged = (_rising(own, len(different)) for own in place.split([len(usual), len(strange)]))
    return Detection(*flagged)


def _rising(place: Int[Tensor, " N"], thresholds: int) -> Int[Tensor, " T"]:
    counts = place.bincount(minlength=thresholds).flip(0).cumsum(0)
    return torch.cat([counts.new_zeros(1), counts])


def _shares(flagged: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
    return flagged.double() / flagged[-1]


def _average_precision(found: Int[Tensor, " T"], others: Int[Tensor, " T"]) -> float:
    """Σ (recall_t - recall_{t-1}) · precision_t."""
    precision = found[1:].double() / (found[1:] + others[1:])
    return float((found.diff() * precision).sum() / found[-1])
