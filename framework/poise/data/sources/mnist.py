"""Handwritten digits."""

from typing import Any, ClassVar

from poise.data.torchvision_source import TorchvisionSource


class Mnist(TorchvisionSource):
    """MNIST, 60000 handwritten digits for training and 10000 for testing; x is [N, 1, 28, 28] in uint8.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based Learning Applied to Document Recognition, 1998.

    Args:
        path: torchvision's root directory; None is poise/data in the user's cache directory.
        val: share of the training examples that choose the model.
        calibration: share of the training examples that fits calibrators.
        download: whether torchvision fetches what is not there.
    """

    dataset: ClassVar[str] = "MNIST"
    published: ClassVar[tuple[int, int, int] | None] = (10, 60_000, 10_000)
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    archives: ClassVar[tuple[str, ...]] = (
        "MNIST/raw/train-images-idx3-ubyte.gz",
        "MNIST/raw/train-labels-idx1-ubyte.gz",
        "MNIST/raw/t10k-images-idx3-ubyte.gz",
        "MNIST/raw/t10k-labels-idx1-ubyte.gz",
    )
    unpacked: ClassVar[str] = "MNIST/raw"
    class_names: ClassVar[tuple[str, ...]] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

    def addresses(self, kind: Any) -> list[str]:
        """Its mirrors."""
        return list(kind.mirrors)
