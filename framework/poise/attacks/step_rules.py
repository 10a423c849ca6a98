"""How APGD steps in each norm, and what it changes at its checkpoints. A further norm is one more entry in RULES.

All of it works on points [B, *input] and numbers [B], example by example.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from poise.attacks.norms import largest_signs
from poise.attacks.survivors import per_example
from poise.attacks.threat import Threat


class StepRule(ABC):
    """What APGD asks of a rule."""

    @classmethod
    @abstractmethod
    def at(cls, threat: Threat, x: Float[Tensor, "B *input"], start: Float[Tensor, "B *input"]) -> "StepRule":
        """The rule at the start of a run."""

    @staticmethod
    @abstractmethod
    def checkpoints(steps: int) -> Collection[int]:
        """After how many steps of a run it looks back."""

    @abstractmethod
    def step(
        self,
        x_adv: Float[Tensor, "B *input"],
        before: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
    ) -> Float[Tensor, "B *input"]:
        """The next point, inside the threat."""

    @abstractmethod
    def see(self, risen: Bool[Tensor, " B"]) -> None:
        """Whether that step raised the loss."""

    @abstractmethod
    def adapted(self, best: Float[Tensor, "B *input"], best_loss: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Look back; which examples go on from their best point."""

    @abstractmethod
    def only(self, these: Bool[Tensor, " B"]) -> "StepRule":
        """The rule for these examples alone."""


@dataclass
class Momentum(StepRule):
    """For linf and l2: a step along the gradient, a quarter of the last one added, halved where it leads no further.

    Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks, 2020,
    arXiv 2003.01690, algorithm 1. The first step is counted against the loss at the start, as in the paper; the
    authors' code counts it against zero.

    Args:
        threat: what is allowed.
        x: clean inputs.
        step_size: of each example; 2·eps at first.
        rises: how many steps since the last look raised the loss.
        steps: how many there were.
        halved: whether the last look halved the step.
        known: the greatest loss at the last look.
        first: whether no step was made yet.
    """

    threat: Threat
    x: Float[Tensor, "B *input"]
    step_size: Float[Tensor, " B"]
    rises: Int[Tensor, " B"]
    halved: Bool[Tensor, " B"]
    known: Float[Tensor, " B"]
    steps: int = 0
    first: bool = True

    def __post_init__(self) -> None:
        self._project = self.threat.projection(self.x)

    @classmethod
    def at(cls, threat: Threat, x: Float[Tensor, "B *input"], start: Float[Tensor, "B *input"]) -> "Momentum":
        number = x.new_zeros(len(x))
        return cls(threat, x, number + 2 * threat.eps, number.long(), number.bool(), number - torch.inf)

    @staticmethod
    def checkpoints(steps: int) -> Collection[int]:
        """After 22 % of the steps, then at intervals shorter by 3 % each time, down to 6 %."""
        interval, last, found = max(22 * steps // 100, 1), 0, []
        while last < steps:
            last += interval
            found.append(last)
            interval = max(interval - max(3 * steps // 100, 1), 6 * steps // 100, 1)
        return found

    def step(
        self,
        x_adv: Float[Tensor, "B *input"],
        before: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
    ) -> Float[Tensor, "B *input"]:
        direction = self.threat.direction(x_adv, gradient)
        ahead = self._project(x_adv.addcmul(direction, per_example(self.step_size, x_adv)))
        if self.first:
            self.first = False
            return ahead
        return self._project(x_adv.lerp(ahead, 0.75).add_(x_adv - before, alpha=0.25))

    def see(self, risen: Bool[Tensor, " B"]) -> None:
        self.steps += 1
        self.rises = self.rises + risen

    def adapted(self, best: Float[Tensor, "B *input"], best_loss: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Where no more than 75 % of the steps raised the loss, or the step was kept and the best is no better."""
        self.halved = (self.rises <= 0.75 * self.steps) | (~self.halved & (self.known >= best_loss))
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        self.rises, self.steps, self.known = torch.zeros_like(self.rises), 0, best_loss
        return self.halved

    def only(self, these: Bool[Tensor, " B"]) -> "Momentum":
        x, step_size, known = self.x[these], self.step_size[these], self.known[these]
        return type(self)(
            self.threat, x, step_size, self.rises[these], self.halved[these], known, self.steps, self.first
        )


@dataclass
class SparseSigns(StepRule):
    """For l1: equal steps of as many values as the best point so far suggests.

    Croce, Hein: Mind the box: l1-APGD for sparse adversarial attacks on image classifiers, 2021, arXiv 2103.01208,
    algorithm 1: two thirds as many values move as the best point has changed. Values that rounding moved count as
    unchanged, which the authors' code counts as changed.

    Args:
        threat: what is allowed.
        x: clean inputs.
        step_size: of each example; eps at first.
        changed: how many values the point had changed at the last look.
        counts: how many values move in a step.
        most: the largest of these.
    """

    threat: Threat
    x: Float[Tensor, "B *input"]
    step_size: Float[Tensor, " B"]
    changed: Int[Tensor, " B"]
    counts: Int[Tensor, " B"] = field(init=False)
    most: int = field(init=False)

    def __post_init__(self) -> None:
        self._project = self.threat.projection(self.x)
        self._recount()

    @classmethod
    def at(cls, threat: Threat, x: Float[Tensor, "B *input"], start: Float[Tensor, "B *input"]) -> "SparseSigns":
        return cls(threat, x, x.new_full((len(x),), threat.eps), _changed(start, x))

    @staticmethod
    def checkpoints(steps: int) -> Collection[int]:
        """After each 4 % of the steps."""
        interval = max(4 * steps // 100, 1)
        return range(interval, steps + 1, interval)

    def step(
        self,
        x_adv: Float[Tensor, "B *input"],
        before: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
    ) -> Float[Tensor, "B *input"]:
        signs = largest_signs(gradient, self.most, self.counts)
        return self._project(x_adv.addcmul(signs, per_example(self.step_size, x_adv)))

    def see(self, risen: Bool[Tensor, " B"]) -> None:
        """Nothing that it looks at."""

    def adapted(self, best: Float[Tensor, "B *input"], best_loss: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Where the best point got sparser by a twentieth, with whole steps again; elsewhere these get shorter."""
        changed = _changed(best, self.x)
        sparser = changed < 0.95 * self.changed
        shorter = (self.step_size / 1.5).clamp(min=self.threat.eps / 10)
        self.step_size = torch.where(sparser, self.threat.eps, shorter).to(shorter.dtype)
        self.changed = changed
        self._recount()
        return sparser

    def only(self, these: Bool[Tensor, " B"]) -> "SparseSigns":
        return replace(self, x=self.x[these], step_size=self.step_size[these], changed=self.changed[these])

    def _recount(self) -> None:
        self.counts = ((2 * self.changed + 2) // 3).clamp(min=1)
        self.most = int(self.counts.max()) if len(self.counts) else 1


def _changed(x_adv: Tensor, x: Tensor) -> Tensor:
    """How many values of each example differ."""
    return (x_adv != x).flatten(1).sum(1)


RULES: dict[str, type[StepRule]] = {"linf": Momentum, "l2": Momentum, "l1": SparseSigns}
