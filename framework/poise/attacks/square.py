"""Square: random search by windows of a picture, without gradients."""

from bisect import bisect_left
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from poise.attacks.attack import MEMORY, Attack, at_least_float32
from poise.attacks.draws import Draws
from poise.attacks.squares import SQUARES
from poise.attacks.threat import Threat
from poise.errors import UserError, nearest

SHARE = 0.8  # of a picture that the first windows take up
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, whatever their number


class Square(Attack):
    """Random search for a low margin: a window of the picture is filled anew and kept where that lowers the margin.

    Margin: the label's logit less the largest other one. Asks for logits alone, so it also finds what an attack by
    gradients misses on a model that hides them.

    Andriushchenko, Croce, Flammarion, Hein: Square Attack: a query-efficient black-box adversarial attack via random
    search, 2020, arXiv 1912.00049; l1 as in Croce, Hein: Mind the box, 2021, arXiv 2103.01208. Departures from the
    authors' code: windows, signs and directions are drawn for each example, not once for the batch, so that the verdict
    does not depend on its neighbours; a window can lie at the last row and column too, as in the paper; a picture that
    is no square has rectangles where a square does not fit, and inputs of one axis, such as tables, are pictures of
    height one. The schedule of sizes is not scaled to the number of queries, as in AutoAttack.

    Cost: one forward a query and one more, of examples that are still right. What broke leaves the batch the next time
    the host looks, which it waits for: before each of the first 50 queries, then ever less often, so that at most one
    query in fifty is of an example that is broken.

    Args:
        threat: what is allowed.
        queries: windows tried in each restart, >= 1.
        restarts: searches from a start of their own, >= 1; only examples that are still right go on to the next.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: queries or restarts is none of these; a norm without squares.
    """

    name = "square"

    def __init__(self, threat: Threat, queries: int = 5000, restarts: int = 1, memory: int = MEMORY) -> None:
        super().__init__(threat, memory)
        for name, count in (("queries", queries), ("restarts", restarts)):
            if count < 1:
                raise UserError(f"{name}={count} of {self.name} is not a number >= 1.")
        if threat.norm not in SQUARES:
            known = ", ".join(SQUARES)
            raise UserError(f"{self.name} takes norm={known}, not {threat.norm!r}.{nearest(threat.norm, SQUARES)}")
        self.queries = queries
        self.restarts = restarts

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """A wrong point if one was found, else that of the lowest margin."""
        best, margin = x.clone(), x.new_full((len(x),), torch.inf)
        right = torch.ones_like(y, dtype=torch.bool)
        for restart in range(self.restarts):
            rows = right.nonzero()[:, 0]
            if not len(rows):
                break
            other, lowest, still = self._restarted(model, x[rows], y[rows], draws.named(restart).rows(rows))
            lower = (lowest < margin[rows]) | ~still
            best[rows] = torch.where(lower.reshape(-1, *[1] * (x.ndim - 1)), other, best[rows])
            margin[rows] = torch.where(lower, lowest, margin[rows]).to(margin.dtype)
            right[rows] = still
        return best

    @torch.no_grad()
    def _restarted(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """The best point of each example, its margin, and whether it is right there."""
        best = SQUARES[self.threat.norm](self.threat, x).start(draws.named("start")).view_as(x)
        margin, right = judged(model(best), y)
        for first, last in _legs(self.queries):
            rows = right.nonzero()[:, 0]
            if not len(rows):
                break
            best[rows], margin[rows], right[rows] = self._leg(
                model, x[rows], y[rows], best[rows], margin[rows], draws.rows(rows), range(first, last)
            )
        return best, margin, right

    def _leg(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        best: Tensor,
        margin: Tensor,
        draws: Draws,
        queries: range,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Some queries in a row, for which nobody waits."""
        squares = SQUARES[self.threat.norm](self.threat, x)
        drawn = draws.uniform(len(queries), squares.numbers, first=queries[0] * squares.numbers)
        best, right = best.view_as(squares.x), torch.ones_like(y, dtype=torch.bool)
        for query, numbers in zip(queries, drawn.unbind(1), strict=True):
            tried = squares.next(best, SHARE / 2 ** bisect_left(HALVED_AFTER, query), numbers)
            other, still = judged(model(tried.view_as(x)), y)
            taken = right & ((other < margin) | ~still)
            margin = torch.where(taken, other, margin)
            best = torch.lerp(best, tried, taken[:, None, None].to(best.dtype))
            right &= still
        return best.view_as(x), margin, right


def judged(logits: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """The margin of each example, and whether it is right, as `attack.is_right` has it."""
    logits = at_least_float32(logits)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    right = (logits.argmax(1) == y) & logits.isfinite().all(1)
    return logits.gather(1, y[:, None])[:, 0] - others, right


def _legs(queries: int) -> Iterator[tuple[int, int]]:
    """First and last query, exclusive, between two looks at what broke."""
    first = 0
    while first < queries:
        last = min(queries, first + 1 + first // 50)
        yield first, last
        first = last
