"""What ranks say of a split together is what one says of it, however it is gathered."""

import pytest
import torch
from torch import Tensor

from poise import predictions
from poise.distributed import Ranks, current_ranks
from poise.models.classifier import Classifier
from poise.predictions import predict
from ranks import Pair
from small_runs import CLASSES, network, rows

SIZE = 25  # no two ranks have as many


def said(piece: int) -> tuple[Tensor, Tensor, Tensor]:
    """In a rank: its logits and features of the whole split, gathered in pieces of so many bytes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(predictions, "PIECE", piece)
        seen = predict(model(), rows(SIZE, 0), current_ranks(), batch_size=4)
    assert seen.features is not None
    return seen.logits, seen.features, seen.index


def model() -> Classifier:
    return Classifier.wrap(network(), CLASSES)


@pytest.mark.parametrize("piece", [1, 2 * 3 * 4 * CLASSES, predictions.PIECE])
def test_each_rank_has_every_row_in_its_place(pair: Pair, piece: int) -> None:
    alone = predict(model(), rows(SIZE, 0), Ranks())
    assert alone.features is not None
    for logits, features, index in pair.run(said, piece):
        torch.testing.assert_close(logits, alone.logits)
        torch.testing.assert_close(features, alone.features)
        assert index.tolist() == list(range(SIZE))
