"""Walks along a model's decision boundary, as near to an input as it leads: what both kinds of FAB are made of."""

from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.attack import MEMORY, Attack, at_least_float32, gradient_of, is_right
from poise.attacks.draws import Draws
from poise.attacks.given import check_kinds
from poise.attacks.hyperplanes import PLANES, change_to, length
from poise.attacks.survivors import per_example
from poise.attacks.threat import Threat
from poise.errors import UserError, nearest
from poise.number_checks import check_counts

ALPHA_MAX = 0.1  # the most that a step is drawn towards the clean input
ETA = 1.05  # overshoot beyond the hyperplane
BETA = 0.9  # how much of the way from the clean input is kept on the wrong side

# from points [b, *input] of the examples `rows` to how far each is from the boundary in logits, and its gradient
Linearised = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Found = tuple[Float[Tensor, "B *input"], Float[Tensor, " B"]]


class BoundaryAttack(Attack):
    """Looks for the nearest input that a model gets wrong, rather than for one at a given distance.

    Croce, Hein: Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack, 2019, arXiv 1907.02044.
    A step linearises the model where the walk stands, goes to a mixture of the points of that hyperplane nearest to
    where it stands and to the clean input, and, if it is wrong there, a tenth of the way back. An example leaves the
    batch as soon as a wrong point within eps of it is known.

    Args:
        threat: what is allowed.
        steps: of each walk, >= 1.
        restarts: walks for each goal, >= 1; all but the first start at a random point eps / 2 away.
        memory: bytes of activations that one pass may keep.

    Raises:
        UserError: steps or restarts is none of these; a norm without hyperplanes.
    """

    def __init__(self, threat: Threat, steps: int, restarts: int, memory: int = MEMORY) -> None:
        super().__init__(threat, memory)
        check_counts(self.name, steps=steps, restarts=restarts)
        if threat.norm not in PLANES:
            known = ", ".join(PLANES)
            raise UserError(f"{self.name} takes norm={known}, not {threat.norm!r}.{nearest(threat.norm, PLANES)}")
        self.steps = steps
        self.restarts = restarts

    @abstractmethod
    def goals(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"]
    ) -> Iterator[tuple[int, Linearised]]:
        """The boundaries that walks look for, each with its number."""

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """The wrong point found within eps; the clean input where there was none."""
        found, distance = self._nearest(model, x, y, draws, enough=self.threat.eps)
        return torch.where(per_example(distance <= self.threat.eps, x), found, x)

    def nearest(
        self,
        model: nn.Module,
        x: Float[Tensor, "B *input"],
        y: Int[Tensor, " B"],
        seed: int = 0,
        index: Int[Tensor, " B"] | None = None,
    ) -> Found:
        """The nearest wrong inputs found, however far, and their distances [B] in the threat's norm.

        An example that is wrong as it is stays as it is, at distance 0; one of which no wrong input was found stays as
        it is, at distance inf. Of the threat's eps only random starts depend. Arguments as in a call.
        """
        check_kinds(model, x, y, index)
        index = torch.arange(len(x)) if index is None else index
        with self.at_work(model):
            x, y = self.given(model, x, y, seed, index)
            draws = Draws.of(seed, index.to(x.device)).named(self.name)
            found, distance = x.clone(), x.new_zeros(len(x))
            for piece in self.pieces(model, x):
                rows = piece[is_right(model, x[piece], y[piece])]
                if len(rows):
                    found[rows], distance[rows] = self._nearest(model, x[rows], y[rows], draws.rows(rows), enough=0.0)
        return found, distance

    def _nearest(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, enough: float) -> Found:
        """Over all walks; an example takes part until a wrong point within `enough` is known."""
        found, distance = x.clone(), x.new_full((len(x),), torch.inf)
        for goal, linearised in self.goals(model, x, y):
            for restart in range(self.restarts):
                rows = (distance > enough).nonzero()[:, 0]
                if not len(rows):
                    return found, distance
                start = self._start(x[rows], draws.named(goal, restart).rows(rows)) if restart else x[rows]
                other, other_distance = self._walk(model, x, y, rows, start, linearised, enough)
                nearer = other_distance < distance[rows]
                found[rows] = torch.where(per_example(nearer, x), other, found[rows])
                distance[rows] = torch.minimum(other_distance, distance[rows])
        return found, distance

    def _start(self, x: Tensor, draws: Draws) -> Tensor:
        """A random point at eps / 2, clipped to the range: of a uniform direction for linf, else of a normal one."""
        shape = x.shape[1:]
        noise = 2 * draws.uniform(*shape) - 1 if self.threat.norm == "linf" else draws.normal(*shape)
        reach = self._distance(noise, torch.zeros_like(noise))
        return self._clipped(x + (noise * per_example(self.threat.eps / 2 / reach, x)).to(x.dtype))

    def _walk(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rows: Tensor,
        at: Tensor,
        linearised: Linearised,
        enough: float,
    ) -> Found:
        """From `at` on, of the examples `rows`: the nearest wrong point met and its distance, inf where none was."""
        home = best = x[rows]
        found, distance = home.clone(), x.new_full((len(rows),), torch.inf)
        places = torch.arange(len(rows), device=x.device)
        for _ in range(self.steps):
            at = self._step(at, home, *linearised(at, rows[places]))
            wrong = ~is_right(model, at, y[rows[places]])
            away = self._distance(at, home).masked_fill(~wrong, torch.inf)
            best = torch.where(per_example(away < distance[places], at), at, best)
            distance[places] = torch.minimum(away, distance[places])
            at = torch.lerp(home, at, per_example(1 - (1 - BETA) * wrong, at).to(at.dtype))
            stays = distance[places] > enough
            if not stays.all():
                found[places] = best
                places, home, best, at = (each[stays] for each in (places, home, best, at))
                if not len(places):
                    return found, distance
        found[places] = best
        return found, distance

    def _step(self, at: Tensor, home: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Towards the hyperplane at which the linearised value is 0, and a little towards home."""
        norm = self.threat.norm
        ends = torch.stack([at, home], 1).flatten(2)
        from_home = (gradient * (ends[:, 0] - ends[:, 1])).sum(-1)
        gap = torch.stack([-value, from_home - value], 1)
        change = change_to(norm, ends, gradient, gap, self.threat.low, self.threat.high)
        far = length(norm, change).clamp_min(1e-8)
        alpha = (far[:, :1] / far.sum(1, keepdim=True)).clamp(max=ALPHA_MAX)
        ends.add_(change, alpha=ETA)
        return self._clipped(torch.lerp(ends[:, 0], ends[:, 1], alpha)).view_as(at)

    def _distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return length(self.threat.norm, (x_adv - x).flatten(1)[:, None])[:, 0]

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.threat.low is None else x.clamp_(self.threat.low, self.threat.high)


def difference(
    model: nn.Module, at: Float[Tensor, "B *input"], y: Int[Tensor, " B"], other: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B D"]]:
    """Logit of the other class less that of the label, and its gradient; one forward and one backward.

    Raises:
        UserError: there is no gradient.
    """
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        value = ahead(at_least_float32(model(leaf)), y, other)
        gradient = gradient_of(value.sum(), leaf)
    return value.detach()[:, 0].to(at.dtype), gradient.flatten(1)


def ahead(logits: Float[Tensor, "B C"], y: Int[Tensor, " B"], other: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
    """How far the other class is ahead of the label."""
    return logits.gather(1, other[:, None]) - logits.gather(1, y[:, None])
