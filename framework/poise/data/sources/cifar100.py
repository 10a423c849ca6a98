"""Photographs of a hundred things."""

from typing import ClassVar

from poise.data.torchvision_source import TorchvisionSource


class Cifar100(TorchvisionSource):
    """CIFAR-100, 50000 photographs for training and 10000 for testing, of 100 classes; x is [N, 3, 32, 32] in uint8.

    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. torchvision reads it, which unpickles
    nothing but files with the published checksums.

    Args:
        path: torchvision's root directory; None is poise/data in the user's cache directory.
        val: share of the training examples that choose the model.
        calibration: share of the training examples that fits calibrators.
        download: whether torchvision fetches what is not there.
    """

    augment: ClassVar[tuple[str, ...]] = ("pad_crop", "flip")
    dataset: ClassVar[str] = "CIFAR100"
    published: ClassVar[tuple[int, int, int] | None] = (100, 50_000, 10_000)
    archives: ClassVar[tuple[str, ...]] = ("cifar-100-python.tar.gz",)
    unpacked: ClassVar[str] = "cifar-100-python"
