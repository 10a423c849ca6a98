"""Digits of house numbers."""

from typing import Any, ClassVar

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from poise.data.torchvision_source import TorchvisionSource


class Svhn(TorchvisionSource):
    """SVHN, 73257 digits of house numbers for training and 26032 for testing; x is [N, 3, 32, 32] in uint8.

    Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011. Its further 531131
    easier digits are left out. Not augmented by default: a digit's mirror image is another thing.

    Args:
        path: torchvision's root directory; None is poise/data in the user's cache directory.
        val: share of the training examples that choose the model.
        calibration: share of the training examples that fits calibrators.
        download: whether torchvision fetches what is not there.
    """

    dataset: ClassVar[str] = "SVHN"
    published: ClassVar[tuple[int, int, int] | None] = (10, 73_257, 26_032)
    archives: ClassVar[tuple[str, ...]] = ("train_32x32.mat", "test_32x32.mat")
    class_names: ClassVar[tuple[str, ...]] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

    def made(self, kind: Any, train: bool, download: bool) -> Any:
        """Torchvision's data set, which names its parts."""
        return kind(self.root, split="train" if train else "test", download=download)

    def addresses(self, kind: Any) -> list[str]:
        """Where the training set is."""
        return [kind.split_list["train"][0]]

    def pictures(self, dataset: Any) -> UInt8[Tensor, "N C H W"]:
        """Those of torchvision's data set, channels first there."""
        return torch.as_tensor(dataset.data).contiguous()

    def labels(self, dataset: Any) -> Int[Tensor, " N"]:
        """Those of torchvision's data set."""
        return torch.as_tensor(dataset.labels)
