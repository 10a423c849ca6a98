"""Whether predictions say anything of the labels."""

import math

import torch

from poise.batch import Predictions

SURE = 4.0  # standard errors; of a thousand epochs of guesses the best is 3.2 above chance
LITTLE = 0.05  # of the way from chance to no error: what many examples tell from chance and few do not


def no_better_than_chance(seen: Predictions, split: str) -> str:
    """What to say of a model that is right as often as if its predictions were dealt out at random; "" of others.

    That is with as many of each class as it predicts, so neither one that always says the most frequent class gets by,
    nor is one suspected that is right less often than that because it looks for rare ones. A model is suspected where
    it is right less than 4 standard errors and less than 5 % of the way more often than by chance: of 100 even classes
    and 5,000 examples where it gets less than 1.6 %. Nothing is said where no error at all would be no sign.

    Sources: Cohen, A Coefficient of Agreement for Nominal Scales, 1960, for agreement by chance; the standard error is
    that of agreements under a random permutation.

    Args:
        seen: predictions.
        split: the name of what they are on.
    """
    size, right = len(seen.label), int(seen.right.sum())
    said, true = (
        torch.bincount(part, minlength=seen.logits.shape[1]).double() for part in (seen.logits.argmax(1), seen.label)
    )
    pairs = said * true
    expected = float(pairs.sum()) / size
    spread = (pairs * (size - said) * (size - true)).sum() + pairs.sum().square() - pairs.square().sum()
    error = math.sqrt(float(spread) / (size**2 * max(size - 1, 1)))
    room = size - expected
    if room <= SURE * error or right - expected > min(SURE * error, LITTLE * room):
        return ""
    return (
        f"on {split} the model is right as often as by chance: {100 * right / size:.2f} % of {size:,} examples, where "
        f"its predictions, dealt out at random, would be right on {100 * expected / size:.2f} ± "
        f"{100 * error / size:.2f} %"
    )
