"""Whether training by one gradient step has overfitted to that step: a look at training examples."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.attack import at_least_float32, gradient_of, own
from poise.attacks.draws import Draws
from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.step import Step

STEPS = 5


@dataclass(frozen=True)
class Look:
    """What a sample of the training split shows, the same on every rank.

    Args:
        accuracy: under PGD, in [0, 1].
        alignment: mean cosine, in [-1, 1], between the gradients at an input and at a random one in its ball.
    """

    accuracy: float
    alignment: float

    @classmethod
    def at(cls, step: Step, examples: int, sample: int) -> "Look":
        """Look at up to `sample` of the split's examples, evenly spread over it, or one a rank if that is more."""
        count = min(examples, max(sample, step.ranks.size))
        attack = _Attacked(step.threat, step.seed)
        seen = step.predict("train", rows=torch.arange(count) * examples // count, attack=attack)
        cosines = torch.cat(attack.cosines)
        total = step.ranks.sum(torch.stack([cosines.nansum(), cosines.isfinite().sum().to(cosines.dtype)]))
        return cls(float(seen.right.double().mean()), float(total[0] / total[1].clamp(min=1)))


@dataclass
class _Attacked:
    """PGD for `step.predict`, which notes the cosines of the inputs that come by."""

    threat: Threat
    seed: int
    cosines: list[Tensor] = field(default_factory=list)

    def __call__(
        self, model: nn.Module, x: Float[Tensor, "B *input"], label: Int[Tensor, " B"], position: Int[Tensor, " B"]
    ) -> Float[Tensor, "B *input"]:
        noise = Draws.of(self.seed, position.to(x.device)).named("alignment").uniform(*x.shape[1:]).to(x.dtype)
        near = self.threat.start(x, 2 * noise - 1)
        self.cosines.append(alignment(model, x, near, label).double())
        attack = PGD(self.threat, steps=STEPS, step_size=self.threat.eps / 4)
        return attack.in_lockstep(model, x, label, self.seed, position)


def alignment(
    model: nn.Module, x: Float[Tensor, "B *input"], near: Float[Tensor, "B *input"], label: Int[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Cosine [B] between the gradients of the cross-entropy at x and at `near`; NaN where one of them is zero."""
    here, there = (_gradient(model, inputs, label).flatten(1) for inputs in (x, near))
    cosine = F.cosine_similarity(here, there, dim=1, eps=0.0)
    return cosine.where(here.any(1) & there.any(1), torch.nan)


def _gradient(model: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        x = own(x).requires_grad_()
        return gradient_of(F.cross_entropy(at_least_float32(model(x)), label, reduction="sum"), x)
