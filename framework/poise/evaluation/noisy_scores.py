"""What is scored of noisy copies of each example: the mean over them, and how much they differ."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.draws import Draws
from poise.batch import as_input
from poise.conformal.robust import Sampled
from poise.data.dataset import Arrays
from poise.data.prefetch import fetched
from poise.evaluator import Subject
from poise.modes import in_mode
from poise.predictions import Attack

Scores = Callable[[Float[Tensor, "n C"]], Float[Tensor, "n C"]]


def noisy_scores(
    subject: Subject,
    data: Arrays,
    index: Int[Tensor, " N"],
    scores: Scores,
    sigma: float,
    copies: int,
    stream: str,
    attack: Attack | None = None,
) -> Sampled:
    """Scores of noisy copies of examples, on the host, the same on every rank; each rank has its share of them.

    Noise is added to inputs in their valid range and never clipped. It is keyed by (seed, stream, position), so it
    hangs neither on batch size nor on ranks.

    Args:
        subject: whose model is asked, `batch_size` copies at once.
        data: the examples.
        index: their positions in their split.
        scores: logits of copies -> scores in [0, 1].
        sigma: of the noise, in input units.
        copies: of each example.
        stream: of random numbers: two of one name see the same noise at the same position.
        attack: as `predict` takes it; what it finds is copied in place of the examples. None for the examples.
    """
    model, ranks = subject.model, subject.ranks
    parameter = next(model.parameters())
    own = torch.arange(ranks.rank, len(data), ranks.size)
    found = torch.zeros(len(own), 2, subject.splits.num_classes, dtype=torch.float64)
    row = 0
    with in_mode(model, "eval"), subject.progress(f"noise on {stream}", len(own)) as done:
        for record in fetched(data.fetch, own.split(subject.batch_size), [data]):
            position, x = record["index"], as_input(record["x"].to(parameter.device))
            x = x.double() if parameter.dtype == torch.float64 else x
            if attack is not None:
                x = attack(model, x, record["label"].to(x.device), position)
            draws = Draws.of(subject.seed, index[position].to(x.device)).named("conformal", stream)
            for place in range(len(x)):
                found[row] = _moments(subject, x[place], scores, sigma, copies, draws.rows(torch.tensor([place])))
                row += 1
                done(1)
    whole = torch.empty((len(data), *found.shape[1:]), dtype=torch.float64)
    whole[torch.cat([torch.arange(rank, len(data), ranks.size) for rank in range(ranks.size)])] = ranks.collect(found)
    return Sampled(whole[:, 0], whole[:, 1])


@torch.no_grad()
def _moments(
    subject: Subject, x: Float[Tensor, "*input"], scores: Scores, sigma: float, copies: int, draws: Draws
) -> Float[Tensor, "2 C"]:
    """Mean and unbiased variance of one example's copies; of a single copy the variance is 0."""
    total = torch.zeros(2, subject.splits.num_classes, dtype=torch.float64)
    for first in range(0, copies, subject.batch_size):
        some = min(subject.batch_size, copies - first)
        noise = draws.normal(some, *x.shape, first=first * x.numel())[0]
        found = scores(subject.model(x + sigma * noise.to(x.dtype)).cpu())
        total += torch.stack([found.sum(0), found.square().sum(0)])
    mean, square = total / copies
    return torch.stack([mean, (square - mean.square()).clamp(min=0) * copies / max(copies - 1, 1)])
