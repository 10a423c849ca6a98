"""Training splits in which classes are not equally large."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from poise.data.dataset import Splits
from poise.data.keys import generator
from poise.data.wrapper import refuse_untrained
from poise.errors import UserError


def thinned(splits: Splits, shares: Sequence[float], seed: int, said: str) -> Splits:
    """The splits with so many training examples of each class as a share of the largest says, or all that it has.

    Args:
        splits: the data.
        shares: of each class, above 0, at most 1.
        seed: keys which ones.
        said: what asks for it, for messages.

    Raises:
        UserError: nothing to train on, or a class would be left without examples that had some.
    """
    refuse_untrained(splits, said)
    label = splits.train.label
    largest = int(label.bincount().max())
    rows = []
    for c, share in enumerate(shares):
        members = (label == c).nonzero().flatten()
        wanted = math.floor(largest * share + 1e-9)  # 500 · 100^-1 is 5, whatever floats make of it
        if len(members) and not wanted:
            raise UserError(
                f"{said} leaves no training example of class {splits.class_names[c]!r}: {largest * share:.2g} of the "
                f"{largest:,} that the largest class has. Take a factor of {largest:,} or less."
            )
        rows.append(members[torch.randperm(len(members), generator=generator(seed, "class", c))[:wanted]])
    return replace(splits, train=splits.train.rows(torch.cat(rows).sort().values))
