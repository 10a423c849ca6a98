"""Whether features lie where those of the predicted class do."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from poise.errors import UserError
from poise.examples import check_labels
from poise.number_checks import check_counts
from poise.uncertainty.features import check_asked, check_features

AGREES = 0.5  # below it no other class's mean is nearer than that of the predicted class


class ClassCentroids:
    """`a / (a + b)` in 0…1, float64: features are a away from the predicted class's mean, b from the nearest other.

    Means are of the features by true labels. Above 1/2 the rule of the nearest class mean contradicts the prediction;
    a class without examples is nowhere, so that what is predicted to be of one is at 1.

    Source: it is 1 / (1 + t) of the trust score t = b / a of Jiang et al., To Trust Or Not To Trust A Classifier, 2018,
    arXiv 1805.11783, and ranks as its negative. Departure: distances are to class means of features, where the paper
    has the nearest of those training examples of a class that lie densely.
    """

    _width: int | None = None

    def fit(self, features: Shaped[Tensor, "..."], label: Int[Tensor, "..."], num_classes: int) -> "ClassCentroids":
        """Take the classes' means of features [N, D] and their true classes [N], on the features' device.

        Raises:
            UserError: features that are not finite numbers [N, D] of one or more examples, labels that are no integers
                [N] in 0…C-1, examples of a single class, which no other one is nearer than.
        """
        check_features(features)
        check_counts("ClassCentroids", num_classes=num_classes)
        check_labels(label, len(features), num_classes, "ClassCentroids")
        counts = label.bincount(minlength=num_classes)
        if (counts > 0).sum() < 2:
            raise UserError("class centroids need examples of two classes or more: these are all of one.")
        sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, device=features.device)
        self._centres = sums.index_add(0, label, features.double()) / counts[:, None].clamp(min=1)
        self._nowhere = counts == 0
        self._width = features.shape[1]
        return self

    @property
    def nowhere(self) -> int:
        """How many classes had no example."""
        return int(self._nowhere.sum())

    def __call__(self, features: Float[Tensor, "M D"], predicted: Int[Tensor, " M"]) -> Float[Tensor, " M"]:
        """How strange it is that examples are of the predicted classes, on the device of what it is fitted to.

        Raises:
            UserError: it is not fitted, or to features of another width; predictions that are no integers [M] in 0…C-1.
        """
        check_asked("ClassCentroids", features, self._width)
        check_labels(predicted, len(features), len(self._centres), "ClassCentroids")
        distance = torch.cdist(features.double(), self._centres).masked_fill(self._nowhere, torch.inf)
        place = predicted[:, None].long()
        own = distance.gather(1, place)[:, 0]
        other = distance.scatter(1, place, torch.inf).amin(1)
        found = (own / (own + other)).nan_to_num(AGREES)  # of an example that lies on two means
        return found.where(own.isfinite(), 1.0)
