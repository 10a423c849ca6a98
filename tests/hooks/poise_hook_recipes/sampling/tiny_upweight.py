"""The second stage of just train twice."""

from typing import ClassVar

from jaxtyping import Int
from torch import Tensor

from poise.recipe import Recipe, Task


class TinyUpweight(Recipe):
    """Each example that an earlier run got wrong stands in an epoch `extra` more times.

    Source: Liu et al., Just Train Twice: Improving Group Robustness without Training Group Information, 2021,
    arXiv 2107.09044. The table `errors` [N] is 1 for those examples and 0 for the others; see `tiny_misclassified`.

    Args:
        extra: copies added, >= 0.
    """

    paper = "Liu et al., Just Train Twice, 2021, arXiv 2107.09044"
    needs: ClassVar[frozenset[str]] = frozenset({"table:errors"})

    def __init__(self, extra: int = 2) -> None:
        super().__init__()
        self.extra = extra

    def sample_weights(self, task: Task, epoch: int) -> Int[Tensor, " N"]:
        return 1 + self.extra * task.tables["errors"].long()
