"""How far away the nearest training examples are."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from poise.errors import UserError
from poise.number_checks import check_counts
from poise.uncertainty.features import PIECE, check_asked, check_features


class NearestNeighbours:
    """The Euclidean distance, in 0…2, of features to the k-th nearest ones, all scaled to length 1.

    Source: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, 2022, arXiv 2204.06507. Departures
    from the authors' code: the search is exact and without a library; features of length 0 stay at 0.

    Args:
        k: which neighbour; published are 50 with all 50,000 examples of CIFAR, 1000 with all of ImageNet.

    Raises:
        UserError: k is no whole number >= 1.
    """

    _width: int | None = None

    def __init__(self, k: int = 50) -> None:
        check_counts("NearestNeighbours", k=k)
        self.k = k

    def fit(self, features: Shaped[Tensor, "..."]) -> "NearestNeighbours":
        """Keep features [N, D] to compare with, on their device.

        Raises:
            UserError: features that are not finite numbers [N, D], or fewer than k examples.
        """
        check_features(features)
        if len(features) < self.k:
            raise UserError(f"there is no neighbour number {self.k} among {len(features)} examples: give a smaller k.")
        self._bank = F.normalize(features, dim=1)
        self._width = features.shape[1]
        return self

    def __call__(self, features: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
        """How strange each example is, of features on the device of those that it is fitted to.

        Raises:
            UserError: it is not fitted, or to features of another width.
        """
        check_asked("NearestNeighbours", features, self._width)
        return torch.cat([self._distance(some) for some in features.split(max(1, PIECE // len(self._bank)))])

    def _distance(self, features: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
        scaled = F.normalize(features, dim=1)
        neighbours = (scaled @ self._bank.T).topk(self.k, dim=1).indices  # the order of distances, but for rounding
        return (scaled - self._bank[neighbours[:, -1]]).norm(dim=1)
