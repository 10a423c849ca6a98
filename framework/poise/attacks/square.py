"""Square: random search by windows of a picture, without gradients."""

from bisect import bisect_left
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.attacks.attack import MEMORY, Attack, at_least_float32
from poise.attacks.draws import Draws
from poise.attacks.squares import SQUARES
from poise.attacks.threat import Threat
from poise.errors import UserError, nearest
from poise.number_checks import check_counts

SHARE = 0.8  # of a picture that the first windows take up
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, whatever their number
BROKEN = -torch.inf  # the margin of what is wrong: nothing is lower, so a point that was found stays


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
        check_counts(self.name, queries=queries, restarts=restarts)
        if threat.norm not in SQUARES:
            known = ", ".join(SQUARES)
            raise UserError(f"{self.name} takes norm={known}, not {threat.norm!r}.{nearest(threat.norm, SQUARES)}")
        self.queries = queries
        self.restarts = restarts

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """A wrong point if one was found, else that of the lowest margin."""
        best, lowest = x.clone(), x.new_full((len(x),), torch.inf)
        for restart in range(self.restarts):
            rows = (lowest > BROKEN).nonzero()[:, 0]
            if not len(rows):
                break
            other, margin = self._restarted(model, x[rows], y[rows], draws.named(restart).rows(rows))
            lower = (margin < lowest[rows]).reshape(-1, *[1] * (x.ndim - 1))
            best[rows] = torch.where(lower, other, best[rows])
            lowest[rows] = torch.minimum(margin.to(lowest.dtype), lowest[rows])
        return best

    @torch.no_grad()
    def _restarted(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The best point of each example and its margin."""
        best = SQUARES[self.threat.norm](self.threat, x).start(draws.named("start")).view_as(x)
        margin = margin_of(model(best), y)
        for queries in _legs(self.queries):
            rows = (margin > BROKEN).nonzero()[:, 0]
            if not len(rows):
                break
            best[rows], margin[rows] = self._leg(
                model, x[rows], y[rows], best[rows], margin[rows], draws.rows(rows), queries
            )
        return best, margin

    def _leg(
        self, model: nn.Module, x: Tensor, y: Tensor, best: Tensor, margin: Tensor, draws: Draws, queries: range
    ) -> tuple[Tensor, Tensor]:
        """Some queries in a row, for which nobody waits."""
        squares = SQUARES[self.threat.norm](self.threat, x)
        drawn = draws.uniform(len(queries), squares.numbers, first=queries[0] * squares.numbers)
        best = best.view_as(squares.x)
        for change in squares.changes([_share(query) for query in queries], drawn):
            tried = change(best)
            other = margin_of(model(tried.view_as(x)), y)
            best = torch.lerp(best, tried, (other < margin).to(best.dtype)[:, None, None])
            margin = torch.minimum(other, margin)
        return best.view_as(x), margin


def margin_of(logits: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The label's logit less the largest other one; BROKEN where the prediction is wrong, as `is_right` has it."""
    logits, label = at_least_float32(logits), y[:, None]
    margin = logits.gather(1, label) - logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
    wrong = (logits.argmax(1, keepdim=True) != label) | ((0 * logits).sum(1, keepdim=True) != 0)
    return margin.masked_fill(wrong, BROKEN)[:, 0]


def _share(query: int) -> float:
    """Of a picture that the window of a query takes up."""
    return SHARE / 2 ** bisect_left(HALVED_AFTER, query)


def _legs(queries: int) -> Iterator[range]:
    """Queries between two looks at what broke."""
    first = 0
    while first < queries:
        last = min(queries, first + 1 + first // 50)
        yield range(first, last)
        first = last
