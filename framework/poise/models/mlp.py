"""A multi-layer perceptron for inputs of any shape."""

import math
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge
from torch import nn

from poise.errors import UserError
from poise.models.classifier import Classifier


def mlp(
    num_classes: int, input_shape: Sequence[int], width: Annotated[int, Ge(1)] = 128, depth: Annotated[int, Ge(1)] = 2
) -> Classifier:
    """Linear layers with ReLU on the flattened input, and one linear layer on top.

    Images are centred as `(x - 0.5) / 0.25`; tabular inputs go in as they are.

    Args:
        num_classes: C.
        input_shape: any shape; (D,) for tabular data.
        width: units of each hidden layer.
        depth: number of hidden layers, 1 or more.

    Raises:
        UserError: a depth below 1.
    """
    if depth < 1:
        raise UserError(f"model.depth={depth}: an mlp has 1 hidden layer or more.")
    backbone = nn.Sequential()
    backbone.add_module("flatten", nn.Flatten())
    units = math.prod(input_shape)
    for number in range(1, depth + 1):
        backbone.add_module(f"layer{number}", nn.Sequential(nn.Linear(units, width), nn.ReLU()))
        units = width
    centre = (0.5, 0.25) if len(input_shape) > 1 else (None, None)
    layer_names = tuple(f"layer{number}" for number in range(1, depth + 1))
    return Classifier(backbone, nn.Linear(units, num_classes), mean=centre[0], std=centre[1], layer_names=layer_names)
