"""What the scores of features have in common: what they are fitted to."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from poise.errors import UserError

PIECE = 2**24  # numbers that a score makes at once


def check_features(features: Shaped[Tensor, "..."], label: Shaped[Tensor, "..."] | None = None) -> None:
    """Whether a score can be fitted to them.

    Raises:
        UserError: features that are not finite numbers [N, D] of one or more examples, or labels that are not [N].
    """
    if features.ndim != 2 or not features.is_floating_point() or not len(features):
        raise UserError(f"features have to be floating point [N, D], not {features.dtype} {tuple(features.shape)}.")
    if label is not None and label.shape != features.shape[:1]:
        raise UserError(f"{len(features)} rows of features need labels [{len(features)}], not {tuple(label.shape)}.")
    if not torch.isfinite(features).all():
        raise UserError("features have to be finite: of these some are NaN or infinite.")
