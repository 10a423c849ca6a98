"""FAB without targets: towards the boundary of whichever class is nearest."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.attack import MEMORY, at_least_float32, gradient_of
from poise.attacks.boundary import BoundaryAttack, Linearised, ahead
from poise.attacks.hyperplanes import dual_length
from poise.attacks.threat import Threat


class FAB(BoundaryAttack):
    """The nearest wrong input found by walks along the boundary of whichever class is nearest at each step.

    Croce, Hein: Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack, 2019, arXiv 1907.02044,
    algorithm 1. Departures from the authors' code: draws by example; examples leave once a wrong point within eps is
    known. Its final search step is not in their code for AutoAttack, and not here.

    Cost of a step: two forwards and C - 1 backwards from one graph, which is why TargetedFAB is for many classes; one
    gradient at a time is kept, so memory does not grow with C.

    Args:
        threat: what is allowed.
        steps: of each walk, >= 1.
        restarts: number of walks, >= 1; only examples that are still right go on to the next.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: steps or restarts is none of these.
    """

    name = "fab"

    def __init__(self, threat: Threat, steps: int = 100, restarts: int = 5, memory: int = MEMORY) -> None:
        super().__init__(threat, steps, restarts, memory)

    def goals(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"]
    ) -> Iterator[tuple[int, Linearised]]:
        yield 0, lambda at, rows: self._nearest_class(model, at, y[rows])

    def _nearest_class(self, model: nn.Module, at: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of a class less that of the label, and its gradient, for the class nearest by linear reckoning."""
        with torch.enable_grad():
            leaf = at.detach().requires_grad_()
            logits = at_least_float32(model(leaf))
            ahead_by = [ahead(logits, y, (y + step) % logits.shape[1]) for step in range(1, logits.shape[1])]
        value, gradient = at.new_zeros(len(at)), torch.zeros_like(at).flatten(1)
        distance = torch.full_like(value, torch.inf)
        for left, other in reversed(list(enumerate(ahead_by))):
            slope = gradient_of(other.sum(), leaf, keep=left > 0).flatten(1)
            here = other.detach()[:, 0].to(at.dtype)
            away = here.abs() / (1e-12 + dual_length(self.threat.norm, slope))
            nearer = away < distance
            value, distance = torch.where(nearer, here, value), torch.where(nearer, away, distance)
            gradient = torch.where(nearer[:, None], slope, gradient)
        return value, gradient
