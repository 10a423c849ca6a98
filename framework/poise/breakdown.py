"""How a measure on examples is spread over classes and groups."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from poise.data.dataset import Arrays, Splits
from poise.figures.parts import Measure, Parts


@dataclass(frozen=True)
class Breakdown:
    """The examples of a split by class or by group.

    Args:
        kind: `class` or `group`.
        names: of the parts.
        member: which part each example is in, from 0.
    """

    kind: str
    names: tuple[str, ...]
    member: Int[Tensor, " N"]

    @property
    def counts(self) -> tuple[int, ...]:
        """Examples in each part."""
        return tuple(torch.bincount(self.member, minlength=len(self.names)).tolist())

    def shares(self, right: Bool[Tensor, " N"]) -> tuple[float, ...]:
        """The share of each part's examples that is right; nan for a part without any."""
        right = right.to(self.member.device).double()
        sums = torch.zeros(len(self.names), dtype=torch.float64).index_add(0, self.member, right)
        return tuple((sums / torch.tensor(self.counts)).tolist())

    def metrics(self, prefix: str, measure: str, right: Bool[Tensor, " N"]) -> dict[str, float]:
        """`<prefix>/<measure>/<kind>/<name>` of the parts that have examples, and `<prefix>/worst_<kind>_<measure>`."""
        shares = {
            name: share for name, share in zip(self.names, self.shares(right), strict=True) if not math.isnan(share)
        }
        by_name = {f"{prefix}/{measure}/{self.kind}/{name}": share for name, share in shares.items()}
        worst = {f"{prefix}/worst_{self.kind}_{measure}": min(shares.values())} if shares else {}
        return by_name | worst

    def meanings(self, measure: str) -> dict[str, str]:
        """What the name of the worst means."""
        return {f"worst_{self.kind}_{measure}": f"The {measure} of the {self.kind} in which it is lowest"}

    def drawing(self, split: str, **measures: Bool[Tensor, " N"]) -> Parts:
        """Bars of one measure or two, by name: which examples are right."""
        found = (Measure(name, self.shares(right), float(right.double().mean())) for name, right in measures.items())
        return Parts(split, self.kind, self.names, self.counts, tuple(found))


def breakdowns(splits: Splits, data: Arrays) -> Iterator[Breakdown]:
    """The examples of a split by class and, where there are groups, by group."""
    yield Breakdown("class", splits.class_names, data.label.cpu())
    if data.group is not None:
        group = data.group.cpu()
        count = max(splits.num_groups, int(group.max()) + 1)  # a shift may have groups that no other split has
        yield Breakdown("group", splits.group_names or tuple(map(str, range(count))), group)
