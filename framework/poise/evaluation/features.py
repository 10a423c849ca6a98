"""What the head sees of training examples, and scores that are fitted to it, over all ranks."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from poise.data.keys import generator
from poise.errors import UserError
from poise.evaluator import Subject
from poise.predictions import in_order, predict

Score = Callable[..., Float[Tensor, " M"]]


def of_training(subject: Subject, most: int) -> tuple[Float[Tensor, "N D"], Int[Tensor, " N"]]:
    """Features and labels of training examples, not augmented, drawn by the seed where there are more than `most`.

    They are on the model's device, the same on every rank. Call on all ranks.

    Raises:
        UserError: why there are no features to fit to.
    """
    train = subject.splits.train
    if len(train) < subject.ranks.size:
        raise UserError("the data have too few training examples")
    if len(train) > most:
        order = torch.randperm(len(train), generator=generator(subject.seed, "features"))
        train = train.rows(order[: max(most, subject.ranks.size)].sort().values)
    with subject.progress("features of train", len(train)) as done:
        seen = predict(subject.model, train, subject.ranks, batch_size=subject.batch_size, watch=done)
    if seen.features is None:
        raise UserError("the model's head is not known, and so not its features either")
    if not torch.isfinite(seen.features).all():
        raise UserError("some features are NaN or infinite")
    return seen.features.to(_device(subject)), seen.label.to(_device(subject))


def scored(subject: Subject, score: Score, *rows: Shaped[Tensor, "N ..."]) -> Float[Tensor, " N"]:
    """A score of all examples, on the host, of which each rank does its share. Call on all ranks.

    Args:
        subject: whose model is on the device that the score was fitted on.
        score: takes rows of each of the tensors.
        rows: features and what else the score takes, the same on every rank.
    """
    ranks, device = subject.ranks, _device(subject)
    own = (whole[ranks.rank :: ranks.size].split(subject.batch_size) for whole in rows)
    scores = [score(*(part.to(device) for part in some)) for some in zip(*own, strict=True)]
    return in_order(torch.cat(scores), len(rows[0]), ranks)


def _device(subject: Subject) -> torch.device:
    return next(subject.model.parameters()).device
