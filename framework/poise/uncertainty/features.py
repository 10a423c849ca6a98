"""What the scores of features have in common: what they are fitted to."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError
from poise.examples import refuse

PIECE = 2**24  # numbers that a score makes at once


def check_features(features: object, label: object = None) -> None:
    """Whether a score can be fitted to them.

    Raises:
        UserError: features that are not finite numbers [N, D] of one or more examples, or labels that are no integers
            [N] from 0 on.
    """
    given = check_tensor(features, "features")
    if given.ndim != 2 or not given.is_floating_point() or not len(given):
        raise UserError(f"features have to be floating point [N, D], not {given.dtype} {tuple(given.shape)}.")
    if label is not None:
        _check_label(check_tensor(label, "label"), len(given))
    if not torch.isfinite(given).all():
        raise UserError("features have to be finite: of these some are NaN or infinite.")


def check_asked(score: str, features: object, width: int | None) -> None:
    """Whether a score can be asked about them.

    Args:
        score: its name.
        features: as they came.
        width: D of what it was fitted to; None where it was not.

    Raises:
        UserError: it was not fitted, or they are no floats [M, D] of the same width.
    """
    if width is None:
        raise UserError(f"{score} is not fitted: call its fit first, with features of the training split.")
    given = check_tensor(features, "features")
    if given.ndim != 2 or given.shape[1] != width or not given.is_floating_point():
        raise UserError(
            f"{score} was fitted to features of width {width} and takes float features [M, {width}], not {given.dtype} "
            f"{tuple(given.shape)}."
        )


def _check_label(label: Shaped[Tensor, "..."], rows: int) -> None:
    if label.shape != (rows,) or label.is_floating_point() or label.is_complex():
        raise UserError(
            f"{rows} rows of features need integer labels [{rows}], not {label.dtype} {tuple(label.shape)}."
        )
    refuse(label < 0, "these features", "has a label below 0")
