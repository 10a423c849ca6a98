"""DeepFool: straight to the nearest boundary of the linearised model, until the prediction changes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.apgd_targeted import most_likely_wrong
from poise.attacks.attack import MEMORY, Attack, at_least_float32, gradient_of, is_right
from poise.attacks.draws import Draws
from poise.attacks.given import check_kinds
from poise.attacks.hyperplanes import change_to, dual_length
from poise.attacks.survivors import per_example
from poise.attacks.threat import Threat
from poise.errors import UserError
from poise.number_checks import check_counts


class DeepFool(Attack):
    """Small changes that turn the prediction, found without looking for the smallest; a diagnosis, no verdict.

    Each step linearises the differences between the logit of the label and those of the most likely other classes,
    and goes to the nearest of the boundaries, in the threat's norm. FAB and APGD find more.

    Source: Moosavi-Dezfooli, Fawzi, Frossard: DeepFool: a simple and accurate method to fool deep neural networks,
    2016, arXiv 1511.04599, algorithm 2 and equation 11. Departures from the authors' code: all examples at once; no
    1e-4 is added to the distance of a step; l1, which the paper leaves to the reader, moves the values with the largest
    gradient; and the walk keeps to the valid range, outside of which theirs finds points that are no inputs.

    Cost: `steps·classes` gradients at most, of examples that are still right; most need two or three steps.

    Args:
        threat: what is allowed. Its norm decides which boundary is near.
        steps: >= 1.
        overshoot: how much farther than to the boundary, >= 0, as a share of the way.
        classes: how many of the most likely other classes are looked at, >= 1.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: steps, overshoot or classes is none of these.
    """

    name = "deepfool"

    def __init__(
        self, threat: Threat, steps: int = 50, overshoot: float = 0.02, classes: int = 9, memory: int = MEMORY
    ) -> None:
        super().__init__(threat, memory)
        check_counts(self.name, steps=steps, classes=classes)
        if not 0 <= overshoot < float("inf"):
            raise UserError(f"overshoot={overshoot} of deepfool is not a finite number >= 0.")
        self.steps = steps
        self.overshoot = overshoot
        self.classes = classes

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """Where the walk ended, projected into the threat; nothing is drawn.

        Raises:
            UserError: no gradient.
        """
        return self.threat.project(self._walked(model, x, y), x)

    def nearest(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B *input"], Float[Tensor, " B"]]:
        """Where the walks ended, and how far that is [B], in the threat's norm.

        An example that is wrong as it is stays as it is, at distance 0; one of which no wrong input was found stays as
        it is, at distance inf. Nothing depends on the threat's eps. Arguments as in a call.
        """
        check_kinds(model, x, y)
        with self.at_work(model):
            x, y = self.given(model, x, y, 0, torch.arange(len(x)))
            found, distance = x.clone(), x.new_zeros(len(x))
            for piece in self.pieces(model, x):
                rows = piece[is_right(model, x[piece], y[piece])]
                if len(rows):
                    end = self._walked(model, x[rows], y[rows])
                    right = is_right(model, end, y[rows])
                    found[rows] = torch.where(per_example(right, x), x[rows], end)
                    distance[rows] = self.threat.distance(end, x[rows]).masked_fill(right, torch.inf)
        return found, distance

    def _walked(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The first wrong point on the way of each example, else the last."""
        ends, left = x.clone(), torch.arange(len(x), device=x.device)
        change = torch.zeros_like(x)
        others = most_likely_wrong(model, x, y, self.classes)
        for _ in range(self.steps):
            step = self._step(model, ends[left], y[left], others[:, left])
            change[left] += step
            ends[left] = self._clipped(x[left] + (1 + self.overshoot) * change[left])
            left = left[is_right(model, ends[left], y[left])]
            if not len(left):
                break
        return ends

    def _step(self, model: nn.Module, x: Tensor, y: Tensor, others: Tensor) -> Tensor:
        """To the nearest of the boundaries between the label and these classes [classes, b], as if all were planes."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            logits = at_least_float32(model(leaf))
            leads = logits.gather(1, y[:, None]) - logits.gather(1, others.T)
        gap, normal = x.new_zeros(len(x)), torch.zeros_like(x).flatten(1)
        nearest = torch.full_like(gap, torch.inf)
        for left, lead in zip(reversed(range(len(others))), leads.unbind(1), strict=True):
            slope = gradient_of(lead.sum(), leaf, keep=left > 0).flatten(1)
            slope = slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            value = lead.detach().to(gap.dtype)
            away = value.abs() / dual_length(self.threat.norm, slope)  # inf where there is no slope
            nearer = away < nearest
            nearest, gap = torch.where(nearer, away, nearest), torch.where(nearer, -value, gap)
            normal = torch.where(nearer[:, None], slope, normal)
        low, high = self.threat.low, self.threat.high
        return change_to(self.threat.norm, x.flatten(1)[:, None], normal, gap[:, None], low, high).view_as(x)

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.threat.low is None else x.clamp(self.threat.low, self.threat.high)
