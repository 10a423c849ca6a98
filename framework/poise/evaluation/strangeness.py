"""How strange the examples of a split look, by every score, the same on every rank."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from poise.data.dataset import Arrays
from poise.errors import UserError
from poise.evaluation.features import Score, of_training, scored
from poise.evaluator import Subject
from poise.meanings import meaning
from poise.predictions import predict
from poise.scores import TEST
from poise.uncertainty.energy import energy
from poise.uncertainty.entropy import entropy
from poise.uncertainty.mahalanobis import Mahalanobis
from poise.uncertainty.max_logit import max_logit
from poise.uncertainty.msp import msp
from poise.uncertainty.nearest_neighbours import NearestNeighbours

OF_PROBABILITIES: dict[str, Score] = {"msp": msp, "entropy": entropy}
OF_LOGITS: dict[str, Score] = {"max_logit": max_logit, "energy": energy}  # of the network alone


@dataclass(frozen=True)
class Judged:
    """The examples of a split, as one column of the report has them.

    Args:
        right: which are predicted as they are labelled; none of an OOD set.
        strangeness: of each, by score; the higher, the stranger.
    """

    right: Bool[Tensor, " N"]
    strangeness: Mapping[str, Float[Tensor, " N"]]


def judged(subject: Subject, split: str, data: Arrays, of_features: Mapping[str, Score]) -> dict[str, Judged]:
    """By the report's columns, `test` and `test/<calibrator>`; call on all ranks.

    Of calibrated logits there are the scores of probabilities alone.

    Args:
        subject: whose model is asked.
        split: its name, for the progress bar.
        data: the split.
        of_features: scores that are fitted to features.
    """
    with subject.progress(f"evaluate {split}", len(data)) as done:
        seen = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size, watch=done)
    (plain, _), *calibrated = subject.columns(TEST, seen)
    own = {name: score(seen.logits) for name, score in (OF_PROBABILITIES | OF_LOGITS).items()}
    if seen.features is not None:
        own |= {name: scored(subject, score, seen.features) for name, score in of_features.items()}
    columns = {plain: Judged(seen.right, own)}
    for prefix, column in calibrated:
        changed = {name: score(column.logits) for name, score in OF_PROBABILITIES.items()}
        columns[prefix] = Judged(column.right, changed)
    return columns


def score_meanings(of_features: Mapping[str, Score]) -> dict[str, str]:
    """What each score is, in a line."""
    return {name: meaning(score) for name, score in {**OF_PROBABILITIES, **OF_LOGITS, **of_features}.items()}


def fitted(subject: Subject, neighbours: int, examples: int) -> tuple[dict[str, Score], str]:
    """The scores of features, by name, and a sentence on what they were fitted to, or on why there are none.

    Call on all ranks.

    Args:
        subject: whose model and training split they are fitted to.
        neighbours: k of the nearest neighbours.
        examples: of the training split, at most.
    """
    try:
        features, label = of_training(subject, examples)
    except UserError as error:
        return {}, f"Without mahalanobis and knn: {error}."
    scores: dict[str, Score] = {
        "mahalanobis": Mahalanobis().fit(features, label),
        "knn": NearestNeighbours(neighbours).fit(features),
    }
    told = f"mahalanobis and knn (k = {neighbours}) are fitted to {len(features):,} training examples, not augmented."
    return scores, told
