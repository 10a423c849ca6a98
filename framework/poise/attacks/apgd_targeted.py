"""Auto-PGD towards one class after the other."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.apgd import ascended
from poise.attacks.attack import MEMORY, Attack
from poise.attacks.climb import Landscape
from poise.attacks.draws import Draws
from poise.attacks.margins import targeted_dlr
from poise.attacks.survivors import Found, worst_of
from poise.attacks.threat import Threat
from poise.number_checks import check_counts


class TargetedAPGD(Attack):
    """Auto-PGD on the targeted difference of logits ratio, once for each of the most likely wrong classes (`apgd-t`).

    A point counts as wrong whatever class is predicted there. Steps, radii and departures as in `APGD`.

    Source: Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, 2020, arXiv 2003.01690; for l1 Croce, Hein: Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers, 2021, arXiv 2103.01208.

    Cost: `targets·restarts·(steps + 1) + 1` forwards and nearly as many backwards, of examples that are still right.

    Args:
        threat: what is allowed.
        targets: number of classes, the most likely wrong ones of the clean input, >= 1; all of them where there are
            fewer.
        steps: of each run, >= 1.
        restarts: random starts for each target, >= 1; only examples that are still right go on to the next run.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: targets, steps or restarts is none of these.
    """

    name = "apgd-t"

    def __init__(
        self, threat: Threat, targets: int = 9, steps: int = 100, restarts: int = 1, memory: int = MEMORY
    ) -> None:
        super().__init__(threat, memory)
        check_counts(self.name, targets=targets, steps=steps, restarts=restarts)
        self.targets = targets
        self.steps = steps
        self.restarts = restarts

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """A wrong point if one was found, else that of the greatest loss.

        Raises:
            UserError: no gradient; fewer than four classes.
        """
        targets = most_likely_wrong(model, x, y, self.targets)
        runs = (
            partial(self._climbed, model, x, y, target, draws.named(number, restart))
            for number, target in enumerate(targets)
            for restart in range(self.restarts)
        )
        return worst_of(x, runs)

    def _climbed(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor, draws: Draws, rows: Tensor) -> Found:
        x, y, target = x[rows], y[rows], target[rows]
        landscape = Landscape(model, y, lambda logits, places: targeted_dlr(logits, y[places], target[places]))
        return ascended(landscape, self.threat, x, draws.rows(rows), self.steps)


@torch.no_grad()
def most_likely_wrong(
    model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], count: int
) -> Int[Tensor, "targets B"]:
    """The classes other than the label, the likeliest first; all of them where there are fewer than `count`."""
    logits = model(x)
    return logits.scatter(1, y[:, None], -torch.inf).topk(min(count, logits.shape[1] - 1)).indices.T
