"""One run of APGD: up the loss from a start, with steps that get smaller where they lead no further."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from poise.attacks.attack import agrees, at_least_float32, gradient_of
from poise.attacks.step_rules import RULES
from poise.attacks.survivors import Found, per_example
from poise.attacks.threat import Threat

Places = Int[Tensor, " b"]


@dataclass(frozen=True)
class View:
    """What there is to see from a point of each example: its loss, the gradient, and whether the model is wrong."""

    loss: Float[Tensor, " b"]
    gradient: Float[Tensor, "b *input"]
    wrong: Bool[Tensor, " b"]


@dataclass(frozen=True)
class Landscape:
    """The loss over the inputs.

    Args:
        model: from inputs to logits [b, C].
        y: true labels of all examples of the run.
        loss: from logits [b, C] and the places of these b examples in the run to the loss [b] to climb.
        average: passes whose mean is taken, for a model whose output is random.
    """

    model: nn.Module
    y: Int[Tensor, " B"]
    loss: Callable[[Float[Tensor, "b C"], Places], Float[Tensor, " b"]]
    average: int = 1

    def seen_from(self, x_adv: Float[Tensor, "b *input"], places: Places) -> View:
        """One forward and one backward of each pass. A gradient that is no number counts as zero.

        Raises:
            UserError: there is no gradient.
        """
        logits, loss, gradient = self._pass(x_adv, places)
        for _ in range(self.average - 1):
            more_logits, more_loss, more_gradient = self._pass(x_adv, places)
            logits, loss, gradient = logits + more_logits, loss + more_loss, gradient + more_gradient
        wrong = ~agrees(logits / self.average, self.y[places])
        gradient = (gradient / self.average).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        return View(loss / self.average, gradient, wrong)

    def _pass(self, x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x_adv.detach().requires_grad_()
            logits = at_least_float32(self.model(leaf))
            loss = self.loss(logits, places)
            gradient = gradient_of(loss.sum(), leaf)
        return logits.detach(), loss.detach(), gradient


@dataclass
class Climbers:
    """The examples that are still in the batch, and what their points were so far.

    Args:
        places: of these b examples in the run.
        x: clean inputs.
        x_adv: where they stand.
        before: where they stood one step before.
        loss: at the point last seen.
        risen: whether the last step raised it.
        gradient: at x_adv.
        best: the point of the greatest loss.
        best_loss: the loss there.
        best_gradient: the gradient there.
        broken: the last wrong point, where there was one.
        wrong: whether there was one.
    """

    places: Places
    x: Float[Tensor, "b *input"]
    x_adv: Float[Tensor, "b *input"]
    before: Float[Tensor, "b *input"]
    loss: Float[Tensor, " b"]
    risen: Bool[Tensor, " b"]
    gradient: Float[Tensor, "b *input"]
    best: Float[Tensor, "b *input"]
    best_loss: Float[Tensor, " b"]
    best_gradient: Float[Tensor, "b *input"]
    broken: Float[Tensor, "b *input"]
    wrong: Bool[Tensor, " b"]

    @classmethod
    def at(cls, x: Float[Tensor, "b *input"], start: Float[Tensor, "b *input"], landscape: Landscape) -> "Climbers":
        """All examples of a run at their starts."""
        places = torch.arange(len(x), device=x.device)
        view = landscape.seen_from(start, places)
        unknown = torch.zeros_like(view.wrong)
        seen = (view.loss, unknown, view.gradient, start, view.loss, view.gradient, start, view.wrong)
        return cls(places, x, start, start, *seen)

    def move(self, x_adv: Float[Tensor, "b *input"], view: View) -> None:
        """Stand at x_adv, from where one sees this."""
        self.before, self.x_adv, self.gradient = self.x_adv, x_adv, view.gradient
        self.risen, self.loss = view.loss > self.loss, view.loss
        higher = view.loss > self.best_loss
        self.best_loss = torch.where(higher, view.loss, self.best_loss)
        self.best = torch.where(per_example(higher, x_adv), x_adv, self.best)
        self.best_gradient = torch.where(per_example(higher, x_adv), view.gradient, self.best_gradient)
        self.broken = torch.where(per_example(view.wrong, x_adv), x_adv, self.broken)
        self.wrong = self.wrong | view.wrong

    def go_back(self, these: Bool[Tensor, " b"]) -> None:
        """Let these stand at their best points again."""
        mask = per_example(these, self.x)
        self.x_adv = torch.where(mask, self.best, self.x_adv)
        self.gradient = torch.where(mask, self.best_gradient, self.gradient)

    def only(self, these: Bool[Tensor, " b"]) -> "Climbers":
        """These alone."""
        return Climbers(*(getattr(self, item.name)[these] for item in fields(self)))


@dataclass(frozen=True)
class Climbed:
    """What a climb found.

    Args:
        best: the point of the greatest loss of each example.
        loss: at it.
        broken: the last wrong point, where there was one.
        wrong: whether there was one.
    """

    best: Float[Tensor, "B *input"]
    loss: Float[Tensor, " B"]
    broken: Float[Tensor, "B *input"]
    wrong: Bool[Tensor, " B"]

    def worst(self) -> Found:
        """The wrong point where there was one, else the best."""
        return Found(torch.where(per_example(self.wrong, self.best), self.broken, self.best), self.loss, self.wrong)


@torch.no_grad()
def climb(
    landscape: Landscape,
    threat: Threat,
    x: Float[Tensor, "B *input"],
    start: Float[Tensor, "B *input"],
    steps: int,
    until_broken: bool,
) -> Climbed:
    """Up from the start, inside the threat; what is kept does not grow with the steps.

    Args:
        landscape: to climb.
        threat: what is allowed.
        x: clean inputs.
        start: inside the threat.
        steps: gradients after that at the start.
        until_broken: whether examples leave the batch at the next checkpoint after a wrong point of theirs was found.
    """
    climbers = Climbers.at(x, start, landscape)
    rule = RULES[threat.norm].at(threat, climbers.x, start)
    checkpoints = rule.checkpoints(steps)
    found = Climbed(*(part.clone() for part in (climbers.best, climbers.best_loss, climbers.broken, climbers.wrong)))
    for step in range(1, steps + 1):
        x_adv = rule.step(climbers.x_adv, climbers.before, climbers.gradient)
        climbers.move(x_adv, landscape.seen_from(x_adv, climbers.places))
        rule.see(climbers.risen)
        if step in checkpoints:
            climbers.go_back(rule.adapted(climbers.best, climbers.best_loss))
            if until_broken and climbers.wrong.any():
                _note(found, climbers.only(climbers.wrong))
                climbers, rule = climbers.only(~climbers.wrong), rule.only(~climbers.wrong)
            if not len(climbers.places):
                return found
    _note(found, climbers)
    return found


def _note(found: Climbed, climbers: Climbers) -> None:
    """What has become of examples that leave."""
    for whole, part in (
        (found.best, climbers.best),
        (found.loss, climbers.best_loss),
        (found.broken, climbers.broken),
        (found.wrong, climbers.wrong),
    ):
        whole[climbers.places] = part
