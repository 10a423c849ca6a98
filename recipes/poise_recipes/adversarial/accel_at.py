"""A learning rate that falls where adversarial training gets no further."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from poise.recipe import Recipe
from poise.step import Step


class AccelAT(Recipe):
    """Lower the learning rate once the validation accuracy, averaged over some epochs, gains less than θ an epoch.

    After each epoch m_e is the mean of the last P accuracies. Where more than P means are known, more than Q - 1
    epochs have passed since the last fall, and m_e - m_(e-1) < θ, the factor on the learning rate is multiplied by c,
    never below `floor`. The accuracy is that under attack where the stack attacks, over all ranks, so all decide
    alike. It needs a validation after every epoch; without one the learning rate stays as it is.

    The factor multiplies that of the schedule: the rule is made for `schedule=constant`, and a run with another says
    so. Under one that falls by itself, such as cosine, the default, accuracy levels off because of it, and the rate is
    lowered twice.

    Source: Nikfam et al., AccelAT: A Framework for Accelerating the Adversarial Training of Deep Neural Networks
    through Accuracy Gradient, 2022, arXiv 2210.06888. Departures from the authors' code: the mean of the third and
    the fourth epoch is over all accuracies so far (theirs takes the last two and the last one; it decides nothing),
    and the least learning rate is a share of the first one. They fit a fixed set of attacked pictures, made once;
    here the stack trains as it does, on batches [B, *input].

    Args:
        threshold: θ, the least gain of the mean accuracy, in [0, 1], that keeps the learning rate. 0.005 is theirs.
        factor: c, in (0, 1]. 0.8 is theirs.
        window: P, in epochs. 5 is theirs.
        quiet: Q, in epochs. 5 is theirs.
        floor: least factor, in [0, 1]. Theirs is 1e-6 of a learning rate of 1e-3.
    """

    paper = (
        "Nikfam et al., AccelAT: A Framework for Accelerating the Adversarial Training of Deep Neural Networks through "
        "Accuracy Gradient, 2022, arXiv 2210.06888"
    )

    def __init__(
        self,
        threshold: Annotated[float, Ge(0), Le(1)] = 0.005,
        factor: Annotated[float, Gt(0), Le(1)] = 0.8,
        window: Annotated[int, Ge(1)] = 5,
        quiet: Annotated[int, Ge(1)] = 5,
        floor: Annotated[float, Ge(0), Le(1)] = 0.001,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.factor = factor
        self.window = window
        self.quiet = quiet
        self.floor = floor
        self._accuracies: list[float] = []
        self._since = quiet  # epochs since the last fall
        self._reached = 1.0

    def lr_factor(self, step: Step) -> float:
        """The product of the falls so far."""
        return self._reached

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        """Take the epoch's accuracy, and decide."""
        accuracy = metrics.get("val/robust_accuracy", metrics.get("val/accuracy"))
        if accuracy is None:
            return
        self._accuracies.append(accuracy)
        self._since += 1
        if self._since > self.quiet and self._stands_still():
            self._reached = max(self.factor * self._reached, self.floor)
            self._since = 1
        step.log("accel_at/lr_factor", self._reached)

    def _stands_still(self) -> bool:
        known = len(self._accuracies) - 1  # means of the epochs before
        return known > self.window and gain(self._accuracies, self.window) < self.threshold

    def get_extra_state(self) -> dict[str, Any]:
        """What the next decision depends on."""
        return {"accuracies": list(self._accuracies), "since": self._since, "reached": self._reached}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up what was kept."""
        self._accuracies = list(state["accuracies"])
        self._since, self._reached = state["since"], state["reached"]


def gain(accuracies: Sequence[float], window: int) -> float:
    """How much the mean of the last `window` accuracies is above that of an epoch before; two or more are given."""
    now, before = accuracies[-window:], accuracies[:-1][-window:]
    return sum(now) / len(now) - sum(before) / len(before)
