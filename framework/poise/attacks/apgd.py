"""Auto-PGD: projected gradient ascent that finds its step sizes by itself."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from poise.attacks.attack import MEMORY, Attack
from poise.attacks.climb import Landscape, climb
from poise.attacks.draws import Draws
from poise.attacks.margins import dlr
from poise.attacks.survivors import Found, worst_of
from poise.attacks.threat import Threat
from poise.errors import UserError, nearest
from poise.number_checks import check_counts

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": lambda logits, y: cross_entropy(logits, y, reduction="none"),
    "dlr": dlr,
}


class APGD(Attack):
    """Auto-PGD on the cross-entropy (`apgd-ce`) or the difference of logits ratio (`apgd-dlr`).

    Steps are long at first and are halved where the loss no longer rises, then from the best point on; under l1 few
    values move at a time, and the radius shrinks on the way: 3·eps for 30 % of the steps, 2·eps for 30 %, then eps.
    Every point that is seen inside the threat can break an example, the start included.

    Source: Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, 2020, arXiv 2003.01690; for l1 Croce, Hein: Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers, 2021, arXiv 2103.01208. Departures from the authors' code: draws by example; a broken example leaves
    the batch at the next checkpoint, and its point is the last wrong one until then; one that withstands comes back at
    its greatest loss, not as it was; the shares of the steps are rounded down; of several passes all are averaged, loss
    and logits too, not the gradient alone.

    Cost: `restarts·(steps + 1)·average` forwards and as many backwards, of examples that are still right; under l1
    `restarts·(steps + 3)·average`.

    Args:
        threat: what is allowed.
        loss: ce or dlr; dlr takes three classes.
        steps: of each restart, >= 1.
        restarts: random starts, >= 1; only examples that are still right go on to the next.
        average: passes whose mean is taken at each point, for a model whose output is random.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: loss, steps, restarts or average is none of these.
    """

    def __init__(
        self,
        threat: Threat,
        loss: str = "ce",
        steps: int = 100,
        restarts: int = 1,
        average: int = 1,
        memory: int = MEMORY,
    ) -> None:
        super().__init__(threat, memory)
        if loss not in LOSSES:
            raise UserError(f"loss={loss!r} of APGD is neither 'ce' nor 'dlr'.{nearest(loss, LOSSES)}")
        self.name = f"apgd-{loss}"
        check_counts(self.name, steps=steps, restarts=restarts, average=average)
        self.loss = loss
        self.steps = steps
        self.restarts = restarts
        self.average = average

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """A wrong point if one was found, else that of the greatest loss.

        Raises:
            UserError: no gradient; too few classes for dlr.
        """
        starts = (draws.named(restart) for restart in range(self.restarts))
        return worst_of(x, (partial(self._climbed, model, x, y, start) for start in starts))

    def _climbed(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, rows: Tensor) -> Found:
        x, y, loss = x[rows], y[rows], LOSSES[self.loss]
        landscape = Landscape(model, y, lambda logits, places: loss(logits, y[places]), self.average)
        return ascended(landscape, self.threat, x, draws.rows(rows), self.steps)


def ascended(landscape: Landscape, threat: Threat, x: Float[Tensor, "B *input"], draws: Draws, steps: int) -> Found:
    """One run of APGD from a random start; under l1 one in each of three shrinking balls."""
    noise = (2 * draws.uniform(*x.shape[1:]) - 1).to(x.dtype)
    *wider, (_, last) = balls(threat, steps)
    at = replace(threat, eps=balls(threat, steps)[0][0]).edge(x, noise)
    for eps, share in wider:
        ball = replace(threat, eps=eps)
        at = climb(landscape, ball, x, ball.project(at, x), share, until_broken=False).best
    return climb(landscape, threat, x, threat.project(at, x), last, until_broken=True).worst()


def balls(threat: Threat, steps: int) -> list[tuple[float, int]]:
    """The radii that a run takes, the threat's own last, and how many steps it makes in each."""
    if threat.norm != "l1":
        return [(threat.eps, steps)]
    share = 3 * steps // 10
    return [(3 * threat.eps, share), (2 * threat.eps, share), (threat.eps, steps - 2 * share)]
