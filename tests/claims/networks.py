"""Networks of claims that poise does not ship."""

from collections.abc import Sequence
from math import prod

from torch import nn

from poise.models.classifier import Classifier


def one_layer(num_classes: int, input_shape: Sequence[int], width: int) -> Classifier:
    """One 3x3 convolution to `width` channels and a linear layer on all positions.

    So small a network overfits to one gradient step (Andriushchenko and Flammarion, Understanding and Improving Fast
    Adversarial Training, 2020, arXiv 2007.02617), and to few attacked examples.
    """
    channels, *sides = input_shape
    backbone = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Flatten())
    return Classifier(backbone, nn.Linear(width * prod(sides), num_classes), mean=0.5, std=0.25)
