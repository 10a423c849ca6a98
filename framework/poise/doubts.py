"""In words: why labelled rows may be no ground to calibrate on."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.files.shown import listed
from poise.metrics.summary import summarised
from poise.paired import Z

FEW_ROWS = 100  # our own limit
FEW_MISTAKES = 5  # of fewer the mean loss has no normal distribution, by which intervals are
FAR = 0.3  # how much surer than right rows may be before one asks for their labels; our own limit too


def doubts(held_out: Predictions, calibrators: Mapping[str, Calibrator], classes: Sequence[str]) -> Iterator[str]:
    """Sentences, the gravest first; none where there is nothing to doubt.

    Args:
        held_out: what calibrators were fitted to.
        calibrators: as they are after that, by alias.
        classes: names of the C classes.
    """
    yield from grave(held_out)
    size = len(held_out.label)
    for alias, calibrator in calibrators.items():
        if calibrator.doubt:
            yield f"{alias} is not to be relied on: {calibrator.doubt}."
    if size < FEW_ROWS:
        yield f"{size} rows are few to fit to, and to choose by: others could well rank the calibrators otherwise."
    yield from _of_classes(held_out.label, classes)


def grave(held_out: Predictions) -> Iterator[str]:
    """Those that everybody has to hear of: labels of other rows, and mistakes that are too few to learn from."""
    yield from of_labels(held_out, "to fit on")
    size, wrong = len(held_out.label), mistakes(held_out)
    if not wrong:
        yield (
            f"Every one of the {size} rows to fit on is predicted right. The surer, the likelier are such rows: they "
            "cannot tell how sure to be, and a mistake among new ones may cost all that is gained. Keep the model as "
            "it is, or fit on rows some of which are predicted wrong."
        )
    elif wrong < FEW_MISTAKES:
        yield (
            f"Of the {size} rows to fit on {wrong} {'is' if wrong == 1 else 'are'} predicted wrong, and decide alone "
            f"how sure a calibrator may be. Trust none that is fitted to fewer than {FEW_MISTAKES} mistakes."
        )


def of_labels(rows: Predictions, purpose: str) -> Iterator[str]:
    """Whether labels are as right as if they had been dealt to the rows by lot, or far less than the model is sure.

    A model that is rightly unsure where it knows nothing is not doubted.
    """
    scores, size = summarised(rows.logits, rows.label).scores, len(rows.label)
    sure, right, by_lot = scores["confidence"], scores["accuracy"], _by_lot(rows)
    margin = Z * (max(by_lot * (1 - by_lot), 1 / size) / size) ** 0.5
    no_better = right <= by_lot + margin and sure > right + margin
    if not no_better and sure <= right + FAR:
        return
    beside = f", about as many as if labels were dealt by lot ({100 * by_lot:.1f} %)" if no_better else ""
    yield (
        f"Of the {size} rows {purpose} {100 * right:.1f} % are predicted right{beside}, and the model is "
        f"{100 * sure:.1f} % sure. Do the labels belong to these rows? Look at the order of rows and at the numbers "
        "of classes first: no calibrator mends either."
    )


def mistakes(rows: Predictions) -> int:
    """How many rows are predicted wrong."""
    return int((rows.logits.argmax(1) != rows.label).sum())


def _by_lot(rows: Predictions) -> float:
    """The share of rows that would be predicted right in the mean over all orders of their labels."""
    classes = rows.logits.shape[1]
    predicted, labelled = (
        torch.bincount(each.cpu(), minlength=classes).double() / len(each)
        for each in (rows.logits.argmax(1), rows.label)
    )
    return float(predicted @ labelled)


def _of_classes(label: Tensor, classes: Sequence[str]) -> Iterator[str]:
    """Which classes no row is of."""
    absent = [name for place, name in enumerate(classes) if not (label == place).any()]
    if absent:
        yield (
            f"{len(absent)} of the {len(classes)} classes {'has' if len(absent) == 1 else 'have'} no row to fit on: "
            f"{listed(absent)}. What is learnt for each class by itself says nothing of such a class."
        )
