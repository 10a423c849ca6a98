"""How far features lie from those of every class, in units of their spread."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from poise.uncertainty.features import PIECE, check_asked, check_features

RIDGE = 1e-6  # of the mean variance, added to every variance: features that never vary leave no inverse


class Mahalanobis:
    """How far features lie from the nearest class mean, in units of the spread that all classes share, float64.

    `min_c ½ (f - μ_c)ᵀ Σ⁻¹ (f - μ_c)`, with each class's mean μ_c and the covariance Σ of all.

    Both are of the features by true labels, as maximum likelihood has them; classes without examples are passed over.

    Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
    2018, arXiv 1807.03888. Departures: of the last features alone and without perturbing inputs, so no example of
    what is to be detected is needed; the mean variance times 1e-6 is added to the diagonal of Σ where the authors' code
    takes a pseudo-inverse.
    """

    _width: int | None = None

    def fit(self, features: Shaped[Tensor, "..."], label: Int[Tensor, "..."]) -> "Mahalanobis":
        """Take means and covariance of features [N, D] and their true classes [N], on the features' device.

        Raises:
            UserError: features that are not finite numbers [N, D] of one or more examples, or labels that are no
                integers [N] from 0 on.
        """
        check_features(features, label)
        classes, place = label.to(features.device).unique(return_inverse=True)
        parts = max(1, PIECE // features.shape[1])
        means = features.new_zeros((len(classes), features.shape[1]), dtype=torch.float64)
        for some, own in zip(features.split(parts), place.split(parts), strict=True):
            means.index_add_(0, own, some.double())
        means /= place.bincount(minlength=len(classes))[:, None]
        covariance = means.new_zeros(means.shape[1], means.shape[1])
        for some, own in zip(features.split(parts), place.split(parts), strict=True):
            away = some.double() - means[own]
            covariance += away.T @ away / len(features)
        self._root = torch.linalg.cholesky(covariance + _ridge(covariance))
        self._centres = self._white(means)
        self._width = features.shape[1]
        return self

    def __call__(self, features: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
        """How strange each example is, >= 0, of features on the device of those that it is fitted to.

        Raises:
            UserError: it is not fitted, or to features of another width.
        """
        check_asked("Mahalanobis", features, self._width)
        return torch.cdist(self._white(features), self._centres).amin(1).square() / 2

    def _white(self, features: Tensor) -> Tensor:
        """Features whose covariance is the identity."""
        return torch.linalg.solve_triangular(self._root, features.double().T, upper=False).T


def _ridge(covariance: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    mean = covariance.diagonal().mean()
    return torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device) * torch.where(
        mean > 0, RIDGE * mean, 1.0
    )
