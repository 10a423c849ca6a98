"""What the Square attack tries next: a window of a picture filled anew, in each norm.

A further norm is one more class here and one more entry in SQUARES. Windows lie elsewhere in each picture, and all
pictures are changed at once.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.draws import Draws
from poise.attacks.threat import Threat

TILES = 5  # along each side of a picture, in the starts of l2 and l1
TINY = 1e-12

Change = Callable[[Tensor], Tensor]  # from the best points so far [n, c, p] to others


class Squares(ABC):
    """Candidates for n pictures, in the threat around x.

    The last two axes of an input are height and width, those before are channels; an input of one axis is a picture
    of height one.

    Args:
        threat: what is allowed.
        x: clean inputs [n, *input].
    """

    numbers: int  # uniform ones that each example needs for one candidate

    def __init__(self, threat: Threat, x: Float[Tensor, "n *input"]) -> None:
        *channels, self.height, self.width = (1, 1, *x.shape[1:])
        self.channels, self.pixels = math.prod(channels), self.height * self.width
        self.threat = threat
        self.x = x.reshape(len(x), self.channels, self.pixels)

    @abstractmethod
    def start(self, draws: Draws) -> Float[Tensor, "n c p"]:
        """Where the search begins."""

    @abstractmethod
    def changes(self, shares: Sequence[float], drawn: Float[Tensor, "n q numbers"]) -> Iterator[Change]:
        """One change after the other, each in a window; the points that they are given stay as they are.

        Args:
            shares: of the picture that each window takes up, in 0…1.
            drawn: uniform numbers.
        """

    def sides(self, share: float, least: int = 1, odd: bool = False) -> tuple[int, int]:
        """Height and width of a window: a square, or where the picture is too low or narrow, a longer rectangle."""
        side = max(round(math.sqrt(share * self.pixels)), least)
        side += odd and side % 2 == 0
        height, width = min(side, self.height), min(side, self.width)
        if height < side:
            width = max(width, min(round(share * self.pixels / height), self.width))
        elif width < side:
            height = max(height, min(round(share * self.pixels / width), self.height))
        return height, width

    def corners(
        self, sides: Sequence[tuple[int, int]], down: Float[Tensor, "n q"], right: Float[Tensor, "n q"]
    ) -> Int[Tensor, "n q"]:
        """Positions of the windows' upper left pixels; each place that a window can have is as likely."""
        tops, lefts = down.new_tensor([(self.height - a + 1, self.width - b + 1) for a, b in sides]).T
        return (down * tops).long() * self.width + (right * lefts).long()

    def rectangle(self, height: int, width: int) -> Int[Tensor, " s"]:
        """Positions of the pixels of a window in the upper left corner."""
        rows, columns = (torch.arange(size, device=self.x.device) for size in (height, width))
        return (rows[:, None] * self.width + columns).flatten()


class LinfSquares(Squares):
    """Every value at an end of what is allowed: first in vertical stripes, then a window of each channel at one end."""

    def __init__(self, threat: Threat, x: Float[Tensor, "n *input"]) -> None:
        super().__init__(threat, x)
        self.numbers = 2 + self.channels
        project = threat.projection(self.x)
        ends = [project(torch.full_like(self.x, end)) for end in (-math.inf, math.inf)]
        self.ends = torch.cat(ends, 1).flatten(1)
        self.of_channel = torch.arange(self.channels, device=x.device) * self.pixels

    def start(self, draws: Draws) -> Float[Tensor, "n c p"]:
        up = draws.uniform(self.channels, 1, self.width) < 0.5
        up = up.expand(-1, -1, self.height, -1).flatten(2)
        low, high = self.ends.view(len(self.x), 2, self.channels, self.pixels).unbind(1)
        return torch.where(up, high, low)

    def changes(self, shares: Sequence[float], drawn: Float[Tensor, "n q numbers"]) -> Iterator[Change]:
        sides = [self.sides(share) for share in shares]
        places = self.corners(sides, drawn[..., 0], drawn[..., 1])[..., None] + self.of_channel
        ends = places + (drawn[..., 2:] < 0.5) * self.channels * self.pixels
        windows = {each: self.rectangle(*each) for each in set(sides)}
        for each, place, end in zip(sides, places.unbind(1), ends.unbind(1), strict=True):
            window = windows[each]
            yield partial(self._filled, (place[..., None] + window).flatten(1), (end[..., None] + window).flatten(1))

    def _filled(self, place: Tensor, end: Tensor, best: Tensor) -> Tensor:
        return best.flatten(1).scatter(1, place, self.ends.gather(1, end)).view_as(best)


class Bumps(Squares):
    """A window's change is a rising and a falling bump; what is taken from another window makes room for it.

    Args:
        threat: what is allowed.
        x: clean inputs [n, *input].
    """

    order: int
    steepness: int

    def __init__(self, threat: Threat, x: Float[Tensor, "n *input"]) -> None:
        super().__init__(threat, x)
        self.numbers = 5 + self.channels
        self.patterns: dict[tuple[int, int], Tensor] = {}

    @abstractmethod
    def settled(self, change: Float[Tensor, "n c p"]) -> Float[Tensor, "n c p"]:
        """The point of the threat that a change leads to, at its edge if the range allows."""

    @abstractmethod
    def budget(self, whole: Float[Tensor, "n 1 1"], freed: Float[Tensor, "n c 1"]) -> Float[Tensor, "n c 1"]:
        """Length of a window's new change in each channel.

        Args:
            whole: length of the change so far.
            freed: its length in both windows, for each channel.
        """

    def start(self, draws: Draws) -> Float[Tensor, "n c p"]:
        height, width = (max(1, side // TILES) for side in (self.height, self.width))
        down, right = self.height // height, self.width // width
        drawn = draws.uniform(down, right, 1 + self.channels)
        turned, signs = (drawn[..., 0] < 0.5).long(), 1 - 2.0 * (drawn[..., 1:] < 0.5)
        bumps = self.pattern(height, width)[turned].view(-1, down, right, 1, height, width)
        tiles = bumps * signs[..., None, None].to(bumps.dtype)
        change = self.x.new_zeros(len(self.x), self.channels, self.height, self.width)
        top, left = (self.height - down * height) // 2, (self.width - right * width) // 2
        inner = tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, self.channels, down * height, right * width)
        change[:, :, top : top + down * height, left : left + right * width] = inner
        return self.settled(change.flatten(2))

    def changes(self, shares: Sequence[float], drawn: Float[Tensor, "n q numbers"]) -> Iterator[Change]:
        sides = [self.sides(share, least=3, odd=True) for share in shares]
        filled, freed = (self.corners(sides, drawn[..., i], drawn[..., i + 1])[..., None, None] for i in (0, 2))
        turned, signs = (drawn[..., 4] < 0.5).long(), 1 - 2.0 * (drawn[..., 5:, None] < 0.5).to(self.x.dtype)
        made = {each: (self.rectangle(*each), self.pattern(*each)) for each in set(sides)}
        for query, each in enumerate(sides):
            window, pattern = made[each]
            bump = pattern[turned[:, query], None] * signs[:, query]
            yield partial(self._moved, filled[:, query] + window, freed[:, query] + window, bump)

    def _moved(self, filled: Tensor, freed: Tensor, bump: Tensor, best: Tensor) -> Tensor:
        """A bump added in one window, as long as the change in both windows and what is left of eps allow."""
        filled, freed = (each.expand(-1, self.channels, -1) for each in (filled, freed))
        change = best - self.x
        whole = self.length(change.flatten(1))[..., None]
        old = change.gather(2, filled)
        change.scatter_(2, filled, 0.0)
        both = torch.cat([old, change.gather(2, freed)], 2)
        change.scatter_(2, freed, 0.0)
        bump = torch.addcdiv(bump, old, self.length(old) + TINY)
        bump *= self.budget(whole, self.length(both)) / (self.length(bump) + TINY)
        return self.settled(change.scatter_(2, filled, bump))

    def pattern(self, height: int, width: int) -> Float[Tensor, "2 s"]:
        """Two bumps of opposite sign in a window, of length one together: below each other, and side by side."""
        if (height, width) not in self.patterns:
            upright, turned = self._halves(height, width), self._halves(width, height).T
            self.patterns[height, width] = torch.stack([upright, turned]).flatten(1).to(self.x)
        return self.patterns[height, width]

    def length(self, values: Float[Tensor, "*rows s"]) -> Float[Tensor, "*rows 1"]:
        """In the norm."""
        return torch.linalg.vector_norm(values, self.order, dim=-1, keepdim=True)

    def _halves(self, height: int, width: int) -> Tensor:
        upper = self._bump(height // 2, width)
        both = torch.cat([upper, -self._bump(height - height // 2, width)])
        return both / self.length(both.flatten())

    def _bump(self, height: int, width: int) -> Tensor:
        """Of length one, highest in the middle: a sum of squares around it, of which the larger add less."""
        rows, columns = (torch.arange(size) - size // 2 for size in (height, width))
        ring = torch.maximum(rows.abs()[:, None], columns.abs())
        adds = 1.0 / torch.arange(1, max(height, width) // 2 + 2) ** self.steepness
        bump = adds.flip(0).cumsum(0).flip(0)[ring]
        return bump / self.length(bump.flatten())


class L2Squares(Bumps):
    """Bumps, with a change that always has length eps before it is clipped to the range."""

    order = 2
    steepness = 2

    def __init__(self, threat: Threat, x: Float[Tensor, "n *input"]) -> None:
        super().__init__(threat, x)
        # adding to x rounds by up to half of this share of the result, and a norm is rounded too
        lost = torch.finfo(x.dtype).eps * (self.length(self.x.flatten(1)) + 8 * threat.eps)
        self.radius = (threat.eps - lost).clamp_min(0)[..., None]

    def settled(self, change: Float[Tensor, "n c p"]) -> Float[Tensor, "n c p"]:
        factor = self.radius / (self.length(change.flatten(1))[..., None] + TINY)
        return _clipped(torch.addcmul(self.x, change, factor), self.threat)

    def budget(self, whole: Float[Tensor, "n 1 1"], freed: Float[Tensor, "n c 1"]) -> Float[Tensor, "n c 1"]:
        left = (self.threat.eps**2 - whole.square()).clamp_min(0)
        return (left / self.channels + freed.square()).sqrt()


class L1Squares(Bumps):
    """Steeper bumps, longer than allowed and then projected, by which a change stays sparse."""

    order = 1
    steepness = 4

    def __init__(self, threat: Threat, x: Float[Tensor, "n *input"]) -> None:
        super().__init__(threat, x)
        self.project = threat.projection(self.x)

    def settled(self, change: Float[Tensor, "n c p"]) -> Float[Tensor, "n c p"]:
        return self.project(self.x + change)

    def budget(self, whole: Float[Tensor, "n 1 1"], freed: Float[Tensor, "n c 1"]) -> Float[Tensor, "n c 1"]:
        return (self.threat.eps - whole).clamp_min(0) + self.channels * freed


SQUARES: dict[str, type[Squares]] = {"linf": LinfSquares, "l2": L2Squares, "l1": L1Squares}


def _clipped(x: Tensor, threat: Threat) -> Tensor:
    return x if threat.low is None else x.clamp_(threat.low, threat.high)
