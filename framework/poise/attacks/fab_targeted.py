"""FAB with targets: towards the boundary of one class after the other."""

from collections.abc import Iterator
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.apgd_targeted import most_likely_wrong
from poise.attacks.attack import MEMORY
from poise.attacks.boundary import BoundaryAttack, Linearised, difference
from poise.attacks.threat import Threat
from poise.number_checks import check_counts


class TargetedFAB(BoundaryAttack):
    """The nearest wrong input found by walks along the boundaries of the classes that are most likely at the input.

    Croce, Hein: Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack, 2019, arXiv 1907.02044;
    by targets, as in Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks,
    2020, arXiv 2003.01690. A target only gives the boundary: a point counts as wrong whatever class is predicted.
    Departures from the authors' code: draws by example; examples leave once a wrong point within eps is known. FAB's
    final search step is not in their code for AutoAttack, and not here.

    Cost of a step: two forwards and one backward, whatever the number of classes.

    Args:
        threat: what is allowed.
        targets: number of classes, the most likely wrong ones of the clean input, >= 1; all of them where there are
            fewer.
        steps: of each walk, >= 1.
        restarts: walks for each target, >= 1; only examples that are still right go on to the next.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: targets, steps or restarts is none of these.
    """

    name = "fab-t"

    def __init__(
        self, threat: Threat, targets: int = 9, steps: int = 100, restarts: int = 1, memory: int = MEMORY
    ) -> None:
        super().__init__(threat, steps, restarts, memory)
        check_counts(self.name, targets=targets)
        self.targets = targets

    def goals(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"]
    ) -> Iterator[tuple[int, Linearised]]:
        for number, target in enumerate(most_likely_wrong(model, x, y, self.targets)):
            yield number, partial(_towards, model, y, target)


def _towards(model: nn.Module, y: Tensor, target: Tensor, at: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    return difference(model, at, y[rows], target[rows])
