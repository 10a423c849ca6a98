"""Pieces of clothing."""

from typing import Any, ClassVar

from poise.data.torchvision_source import TorchvisionSource


class FashionMnist(TorchvisionSource):
    """Fashion-MNIST, 60000 pieces of clothing for training and 10000 for testing; x is [N, 1, 28, 28] in uint8.

    H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
    2017, arXiv 1708.07747.

    Args:
        path: torchvision's root directory; None is poise/data in the user's cache directory.
        val: share of the training examples that choose the model.
        calibration: share of the training examples that fits calibrators.
        download: whether torchvision fetches what is not there.
    """

    dataset: ClassVar[str] = "FashionMNIST"
    published: ClassVar[tuple[int, int, int] | None] = (10, 60_000, 10_000)
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    archives: ClassVar[tuple[str, ...]] = (
        "FashionMNIST/raw/train-images-idx3-ubyte.gz",
        "FashionMNIST/raw/train-labels-idx1-ubyte.gz",
        "FashionMNIST/raw/t10k-images-idx3-ubyte.gz",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz",
    )
    unpacked: ClassVar[str] = "FashionMNIST/raw"

    def addresses(self, kind: Any) -> list[str]:
        """Its mirrors."""
        return list(kind.mirrors)
