"""Labels that are wrong."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Int
from torch import Tensor

from poise.data.dataset import Arrays, Splits
from poise.data.keys import generator
from poise.data.wrapper import Wrapper, refuse_empty, refuse_untrained


class LabelNoise(Wrapper):
    """A share of the labels is changed to another class, exactly round(rate·N) of them; test stays as it is.

    `symmetric`: to one of the C-1 other classes, all alike, so a label is right with probability 1 - rate (papers that
    draw from all C classes call rate·C / (C-1) what is `rate` here). `pair`: class c becomes c + 1, the last one the
    first. Groups stay as they are. Van Rooyen, Menon, Williamson, Learning with Symmetric Label Noise, 2015, arXiv
    1505.07634; Han et al., Co-teaching, 2018, arXiv 1804.06872, who flip each label alone, so that the share varies.

    Args:
        rate: share of the labels that are wrong.
        kind: which class a wrong label names.
        splits: whose labels are changed. Training alone is what papers do; with val and calibration as well, the epoch
            is chosen and calibrators are fitted as where nobody can tell the right labels from the wrong ones.
    """

    def __init__(
        self,
        rate: Annotated[float, Ge(0), Le(1)],
        kind: Literal["symmetric", "pair"] = "symmetric",
        splits: tuple[Literal["train", "val", "calibration"], ...] = ("train",),
    ) -> None:
        self.rate = rate
        self.kind = kind
        self.splits = splits

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits with some labels changed.

        Raises:
            UserError: nothing to train on.
        """
        refuse_untrained(splits, "label_noise")
        refuse_empty(self.said("splits"), self.splits)
        seen = {
            name: self._noisy(name, split, splits.num_classes, seed) if name in self.splits else split
            for name, split in splits.main.items()
        }
        return replace(splits, train=seen["train"], val=seen["val"], calibration=seen["calibration"])

    def _noisy(self, name: str, split: Arrays, num_classes: int, seed: int) -> Arrays:
        keyed = generator(seed, name)
        wrong = torch.randperm(len(split), generator=keyed)[: round(self.rate * len(split))]
        label = split.label.clone()
        label[wrong] = (label[wrong] + self._offset(len(wrong), num_classes, keyed)) % num_classes
        return Arrays(split.x, label, split.group)

    def _offset(self, count: int, num_classes: int, keyed: torch.Generator) -> Int[Tensor, " M"]:
        """How many classes further a wrong label is."""
        most = num_classes if self.kind == "symmetric" else 2
        return torch.randint(1, most, (count,), generator=keyed)
