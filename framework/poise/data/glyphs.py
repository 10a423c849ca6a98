"""Pictures of digits that other data are made of."""

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor


def load_glyphs() -> tuple[Float[Tensor, "N 1 8 8"], Int[Tensor, " N"]]:
    """All pictures, [N, 1, 8, 8] in 0…1, and which digit each shows, [N]."""
    images, digit = load_digits(return_X_y=True)
    pixels = images.astype(np.float32).reshape(-1, 1, 8, 8) / 16
    return torch.from_numpy(pixels), torch.from_numpy(digit.astype(np.int64))
