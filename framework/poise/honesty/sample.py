"""The examples on which an evaluation by attack is checked, and what is known of them."""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.evaluator import Subject
from poise.models.classifier import Classifier
from poise.predictions import Attack, predict


@dataclass(frozen=True)
class Beyond:
    """By how much accuracy under one attack is lower than under another, on the same examples.

    Args:
        share: of all examples; below 0 where it is higher.
        error: the standard error of that, as McNemar's test has it.
    """

    share: float
    error: float

    def limit(self, least: float) -> float:
        """A limit that chance does not reach: two standard errors, where they are more than `least`."""
        return max(least, 2 * self.error)


@dataclass(frozen=True)
class Sample:
    """Some examples of a split, as the model sees them and as the attack that is checked leaves them.

    Args:
        subject: the model under evaluation.
        data: the examples, not fewer than there are ranks.
        index: their positions in their split, of which draws are.
        clean: predictions on them as they are.
        attacked: predictions under the attack.
        steps: of the attack.
        restarts: of the attack.
    """

    subject: Subject
    data: Arrays
    index: Int[Tensor, " N"]
    clean: Predictions
    attacked: Predictions
    steps: int
    restarts: int

    def __len__(self) -> int:
        return len(self.index)

    def right_under(self, attack: Attack) -> Bool[Tensor, " N"]:
        """Which examples are still right under another attack: (model, x, label, index) -> x_adv."""

        def attacked(model: Classifier, x: Tensor, label: Tensor, position: Tensor) -> Tensor:
            return attack(model, x, label, self.index[position])

        subject = self.subject
        return predict(subject.model, self.data, subject.ranks, attacked, subject.batch_size).right

    def pgd(self, threat: Threat, steps: int, step_size: float | None = None) -> PGD:
        """The attack that is checked, but for what is given: from the same starts, so that these are no difference."""
        attack = PGD(threat, steps, step_size, self.restarts)
        attack.name = f"pgd-{self.steps}"  # of which draws are
        return attack

    def beyond(self, weak: Bool[Tensor, " N"], strong: Bool[Tensor, " N"]) -> Beyond:
        """What an attack that is to be weaker breaks beyond one that is to be stronger; by what each leaves right."""
        count = len(self)
        only_weak, only_strong = int((strong & ~weak).sum()), int((weak & ~strong).sum())
        return Beyond((only_weak - only_strong) / count, math.sqrt(only_weak + only_strong) / count)
