"""The examples on which an evaluation by attack is checked, and what is known of them."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.evaluator import Subject
from poise.models.classifier import Classifier
from poise.predictions import predict

Attack = Callable[[Classifier, Tensor, Tensor, Tensor], Tensor]


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

    def gain(self, right: Bool[Tensor, " N"]) -> float:
        """The share of accuracy that another attack takes beyond the one that is checked; below 0 if it is weaker."""
        return float(self.attacked.right.double().mean() - right.double().mean())
