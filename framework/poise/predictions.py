"""What a model says of a whole split, over all ranks."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from poise.batch import Predictions, as_input
from poise.data.dataset import Arrays
from poise.data.prefetch import fetched
from poise.distributed import Ranks
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.modes import in_mode

PIECE = 2**26  # bytes of all ranks' predictions that each gathers at once

Attack = Callable[[Classifier, Tensor, Tensor, Tensor], Tensor]


def predict(
    model: Classifier,
    data: Arrays,
    ranks: Ranks,
    attack: Attack | None = None,
    batch_size: int = 256,
    watch: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Predictions for a split in evaluation mode, without augmentation, in index order on every rank.

    Each example is counted exactly once: rank r takes positions r, r+R, …. Call on all ranks.

    Args:
        model: inputs to logits.
        data: the split.
        ranks: of the run.
        attack: (model, x, label, position) -> x_adv, whose predictions are given in place of the clean ones'.
        batch_size: examples a pass on each rank; changes no result.
        watch: told the number of examples just done, for a progress bar.
    """
    if len(data) < ranks.size:
        raise UserError(f"a split has {len(data)} examples, fewer than there are ranks ({ranks.size})")
    parameter = next(model.parameters())
    positions = torch.arange(ranks.rank, len(data), ranks.size)
    logits, features = [], []
    with in_mode(model, "eval"):
        for record in fetched(data.fetch, positions.split(batch_size), [data]):
            part, x = record["index"], as_input(record["x"].to(parameter.device))
            x = x.double() if parameter.dtype == torch.float64 else x
            if attack is not None:
                x = attack(model, x, record["label"].to(x.device), part)
            with torch.no_grad():
                output = model.run(x)
            logits.append(output.logits)
            features.append(output.features)
            watch(len(part))
    seen = [f for f in features if f is not None]
    return Predictions(
        logits=in_order(torch.cat(logits), len(data), ranks),
        features=in_order(torch.cat(seen), len(data), ranks) if seen else None,
        label=data.label.cpu(),
        group=None if data.group is None else data.group.cpu(),
        index=torch.arange(len(data)),
    )


def in_order(own: Shaped[Tensor, "n *shape"], size: int, ranks: Ranks) -> Shaped[Tensor, "N *shape"]:
    """All ranks' rows in the order of their positions, which are r, r+R, … of rank r of R, on the host.

    No device ever holds more than a piece of them.
    """
    whole = torch.empty((size, *own.shape[1:]), dtype=own.dtype)
    most = -(-size // ranks.size)
    at_once = max(1, PIECE // (ranks.size * own[:1].nbytes))
    for first in range(0, most, at_once):
        end = min((first + at_once) * ranks.size, size)
        positions = torch.cat([torch.arange(first * ranks.size + r, end, ranks.size) for r in range(ranks.size)])
        whole[positions] = ranks.collect(own[first : first + at_once]).cpu()
    return whole
