"""How often sets of labels hold the true one, and how large they are."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError
from poise.evaluation.certificates import lower_bound
from poise.examples import check_labels

FEWEST = 10  # sets of like sizes whose coverage says something
UNSURE = 0.05  # probability, at most, that an interval misses the true coverage
SIZES = {"0-1": 1, "2-3": 3, "4-6": 6, "7-10": 10, "11-100": 100, "101-1000": 1000, "more": 2**31}  # the largest


@dataclass(frozen=True)
class Measured:
    """Sets of N examples.

    Args:
        covered: which of them hold the true label.
        sizes: how many labels each has.
        label: true ones.
        num_classes: C.
        group: sub-populations, from 0; None where there are none.
    """

    covered: Bool[Tensor, " N"]
    sizes: Int[Tensor, " N"]
    label: Int[Tensor, " N"]
    num_classes: int
    group: Int[Tensor, " N"] | None = None

    @classmethod
    def of(
        cls, sets: Bool[Tensor, "N C"], label: Int[Tensor, " N"], group: Int[Tensor, " N"] | None = None
    ) -> "Measured":
        """Those of sets, given as which labels are in them.

        Raises:
            UserError: sets are no truth values [N, C], or labels no integers [N] in 0…C-1.
        """
        if check_tensor(sets, "sets").dtype != torch.bool or sets.ndim != 2:
            raise UserError(f"Measured takes sets as truth values [N, C], not {sets.dtype} {tuple(sets.shape)}.")
        check_labels(label, len(sets), sets.shape[1], "Measured")
        label = label.long()
        return cls(sets.gather(1, label[:, None])[:, 0], sets.sum(1), label, sets.shape[1], group)

    @property
    def coverage(self) -> float:
        """Share of the examples whose true label is in their set."""
        return float(self.covered.double().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of Clopper and Pearson's interval of the coverage, at 95 %."""
        hits = torch.stack([self.covered.sum(), (~self.covered).sum()])
        low, missed = lower_bound(hits, len(self.covered), UNSURE / 2).tolist()
        return low, 1 - missed

    @property
    def mean_size(self) -> float:
        """Of the sets, in labels."""
        return float(self.sizes.double().mean())

    @property
    def counts(self) -> tuple[int, ...]:
        """How many sets have each size, from 0 to C."""
        return tuple(torch.bincount(self.sizes, minlength=self.num_classes + 1).tolist())

    def coverage_by_size(self) -> dict[str, float]:
        """Coverage of the sets of like sizes, `0-1`, `2-3` …, where there are ten or more."""
        stratum = torch.bucketize(self.sizes, torch.tensor([*SIZES.values()]))
        of_size = {name: stratum == place for place, name in enumerate(SIZES)}
        return {
            name: float(self.covered[some].double().mean()) for name, some in of_size.items() if some.sum() >= FEWEST
        }

    def coverage_by(self, member: Int[Tensor, " N"]) -> dict[int, float]:
        """Coverage of the examples of each class, or other part, that has any."""
        return {int(part): float(self.covered[member == part].double().mean()) for part in member.unique()}

    def metrics(self, alpha: float) -> dict[str, float]:
        """What is told of sets that should hold the true label in a share of 1 - alpha.

        `coverage` and the ends of its interval, `mean_size`, the shares that are `empty`, of one label (`single`) and
        of all labels (`full`), `worst_class_coverage` and `worst_group_coverage`. Two gaps are distances of a coverage
        from 1 - alpha, whichever side it is on, in [0, 1]: `mean_class_coverage_gap` is the mean of them over classes,
        and `largest_size_coverage_gap` the largest one among sets of like sizes, `coverage_of_size/0-1`,
        `coverage_of_size/2-3` …: sizes that fewer than ten sets have are left out, which the authors' code takes in.

        The gaps are known as CovGap (there in per cent) and as SSCV, the size-stratified coverage violation: Ding et
        al., Class-Conditional Conformal Prediction with Many Classes, 2023, arXiv 2306.09335; Angelopoulos et al.,
        2021, arXiv 2009.14193, whose ranges of sizes these are.

        Raises:
            UserError: there are no sets.
        """
        if not len(self.covered):
            raise UserError("There are no sets to measure: give one example or more.")
        low, high = self.interval
        by_class, by_size = self.coverage_by(self.label).values(), self.coverage_by_size()
        gaps, of_sizes = ([abs(coverage - (1 - alpha)) for coverage in of] for of in (by_class, by_size.values()))
        shares = {"empty": self.sizes == 0, "single": self.sizes == 1, "full": self.sizes == self.num_classes}
        return {
            "coverage": self.coverage,
            "coverage_low": low,
            "coverage_high": high,
            "mean_size": self.mean_size,
            **{name: float(some.double().mean()) for name, some in shares.items()},
            "worst_class_coverage": min(by_class),
            **({} if self.group is None else {"worst_group_coverage": min(self.coverage_by(self.group).values())}),
            "mean_class_coverage_gap": sum(gaps) / len(gaps),
            **({"largest_size_coverage_gap": max(of_sizes)} if of_sizes else {}),
            **{f"coverage_of_size/{name}": coverage for name, coverage in by_size.items()},
        }
