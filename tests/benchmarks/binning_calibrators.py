"""Binned, monotone and spline calibrators beside others: `python tests/benchmarks/binning_calibrators.py SPLINE MIX`.

SPLINE and MIX are clones of kartikgupta-at-anu/spline-calibration and zhang64-llnl/Mix-n-Match-Calibration; netcal and
betacal have to be importable.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.metrics import CalibrationError
from poise.metrics.bins import bin_of
from poise_recipes import BetaCalibration, HistogramBinning, Isotonic, IsotonicPooled, Spline
from poise_recipes.calibration.one_vs_rest import lifted

SIZES = ((500, 4), (5000, 10))
OTHER_ROWS = 20000
ALMOST_NONE = 1e-9  # of beta calibration's penalty

Probabilities = Callable[[Tensor], Tensor]
"""Of rows of probabilities [N, C], what becomes of them."""


@dataclass(frozen=True)
class Rival:
    """A calibrator of ours and one of somebody else.

    Args:
        name: in the table.
        ours: not fitted yet.
        theirs: fits to probabilities and labels, and gives rows that sum to 1.
        map_apart: how far both maps are apart at most, of the fitted ones and probabilities that they are applied to,
            without what ours adds to it.
    """

    name: str
    ours: Calibrator
    theirs: Callable[[Tensor, Tensor], Probabilities]
    map_apart: Callable[[Any, Probabilities, Predictions, Tensor], float]


def rows(size: int, classes: int, seed: int) -> Predictions:
    """Logits bent so that no temperature calibrates them."""
    keyed = torch.Generator().manual_seed(seed)
    honest = (3 * torch.randn(size, classes, generator=keyed, dtype=torch.float64)).log_softmax(1)
    label = torch.multinomial(honest.exp(), 1, generator=keyed)[:, 0]
    bent = honest.sign() * honest.abs() ** 1.25 * 1.2
    return Predictions(logits=bent, features=None, label=label, group=None, index=torch.arange(size))


def scores(log_p: Tensor, label: Tensor) -> list[str]:
    """Negative log-likelihood and calibration error."""
    error = CalibrationError()
    error.update(log_p, label)
    return [f"{float(F.nll_loss(log_p, label)):.4f}", f"{float(error.compute()):.4f}"]


def compared(rival: Rival, size: int, classes: int) -> str:
    """One line of the table."""
    held_out, test = rows(size, classes, 0), rows(OTHER_ROWS, classes, 1)
    start = time.process_time()
    rival.ours.fit(held_out)
    middle = time.process_time()
    theirs = rival.theirs(held_out.logits.softmax(1), held_out.label)
    end = time.process_time()
    probability = test.logits.softmax(1)
    cells = [
        f"{size} x {classes}",
        rival.name,
        f"{rival.map_apart(rival.ours, theirs, held_out, probability):.0e}",
        *scores(rival.ours(test.logits), test.label),
        *scores(theirs(probability).log(), test.label),
        f"{middle - start:.3f}",
        f"{end - middle:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def normalised(share: Tensor) -> Tensor:
    """Rows that sum to 1; such as are 0 become uniform."""
    share = torch.where(share.sum(1, keepdim=True) > 0, share, torch.ones_like(share))
    return share / share.sum(1, keepdim=True)


def unmixed(found: Calibrator, held_out: Predictions, probability: Tensor) -> Tensor:
    """Rows without the share of the uniform distribution that ours have."""
    size, classes = held_out.logits.shape
    return found(probability.log()).exp() * (size + 1) / size - 1 / size / classes


def rows_apart(found: Calibrator, theirs: Probabilities, held_out: Predictions, probability: Tensor) -> float:
    """Of whole rows, ours without the uniform share."""
    return float((unmixed(found, held_out, probability) - theirs(probability)).abs().max())


# -- netcal --------------------------------------------------------------------------------------------------------


def histogram(probability: Tensor, label: Tensor) -> Probabilities:
    """Their one against the rest, 15 bins."""
    from netcal.binning import HistogramBinning as TheirBinning  # type: ignore[import-not-found]

    found = TheirBinning(bins=15).fit(probability.numpy(), label.numpy())
    return lambda other: torch.from_numpy(found.transform(other.numpy()))


def histogram_apart(found: Any, theirs: Probabilities, held_out: Predictions, probability: Tensor) -> float:
    """Of rows of which every bin has examples, ours without the example more that each bin has."""
    bins, classes = found.bins, held_out.logits.shape[1]
    index = bin_of(held_out.logits.softmax(1), bins)
    examples = torch.stack([index[:, k].bincount(minlength=bins) for k in range(classes)])
    middle = (torch.arange(bins) + 0.5).double() / bins
    frequency = (found.share * (examples + 1) - middle) / examples
    share = frequency.gather(1, bin_of(probability, bins).t()).t()
    filled = share.isfinite().all(1) & (share.sum(1) > 1e-9)
    return float((normalised(share[filled]) - theirs(probability[filled])).abs().max())


# -- betacal -------------------------------------------------------------------------------------------------------


def beta(probability: Tensor, label: Tensor) -> Probabilities:
    """Theirs for each class against the rest, rows normalised."""
    from betacal import BetaCalibration as TheirBeta  # type: ignore[import-not-found]

    maps = [
        TheirBeta(parameters="abm").fit(column.numpy()[:, None], label.eq(k).numpy())
        for k, column in enumerate(probability.t())
    ]
    return lambda other: normalised(
        torch.stack(
            [torch.from_numpy(each.predict(column.numpy())) for each, column in zip(maps, other.t(), strict=True)], 1
        )
    )


def beta_apart(found: Any, theirs: Probabilities, held_out: Predictions, probability: Tensor) -> float:
    """Of whole rows, ours almost without a penalty."""
    bare = BetaCalibration(ALMOST_NONE).fit(held_out)
    return float((bare(probability.log()).exp() - theirs(probability)).abs().max())


# -- Mix-n-Match ---------------------------------------------------------------------------------------------------


def mix_n_match(name: str) -> Callable[[Tensor, Tensor], Probabilities]:
    """One of their isotonic regressions, which fit whenever they are applied; rows normalised."""
    import util_calibration  # type: ignore[import-not-found]

    def fit(probability: Tensor, label: Tensor) -> Probabilities:
        known = probability.log().numpy(), F.one_hot(label, probability.shape[1]).numpy()
        calibrate = getattr(util_calibration, name)
        return lambda other: normalised(torch.from_numpy(calibrate(*known, other.log().numpy())))

    return fit


# -- spline-calibration --------------------------------------------------------------------------------------------


def their_spline(probability: Tensor, label: Tensor) -> Any:
    """Their function of a confidence."""
    import recalibrate  # type: ignore[import-not-found]

    confidence, predicted = probability.max(1)
    right = predicted.eq(label).double()
    return recalibrate.get_recalibration_function(confidence.numpy(), right.numpy(), "natural", 6)


def spline(probability: Tensor, label: Tensor) -> Probabilities:
    """Theirs, kept to 0…1 as their program does it, lifted to rows as ours is."""
    found = their_spline(probability, label)

    def rows_of(other: Tensor) -> Tensor:
        confidence = torch.tensor([found(each) for each in other.amax(1).tolist()], dtype=torch.float64)
        return lifted(other.log(), confidence.clamp(0, 1)).exp()

    return rows_of


def spline_apart(found: Any, theirs: Probabilities, held_out: Predictions, probability: Tensor) -> float:
    """At the confidences that were fitted to: between them theirs has the weights of both ends exchanged."""
    knots = their_spline(held_out.logits.softmax(1), held_out.label)
    return float((found.accuracy - torch.from_numpy(knots.y)).abs().max())


def rivals() -> Iterator[Rival]:
    """Everyone."""
    yield Rival("histogram_binning, netcal", HistogramBinning(), histogram, histogram_apart)
    yield Rival("beta_calibration, betacal", BetaCalibration(), beta, beta_apart)
    yield Rival("isotonic, Mix-n-Match", Isotonic(), mix_n_match("irova_calibrate"), rows_apart)
    yield Rival("isotonic_pooled, Mix-n-Match", IsotonicPooled(), mix_n_match("mir_calibrate"), rows_apart)
    yield Rival("spline, its authors'", Spline(), spline, spline_apart)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spline", metavar="SPLINE", help="clone of spline-calibration")
    parser.add_argument("mix", metavar="MIX", help="clone of Mix-n-Match-Calibration")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path[:0] = [options.spline, options.mix]
    sys.modules["log_utils"] = SimpleNamespace(ResultsLog=None)  # type: ignore[assignment]  # it draws by bokeh
    print("| rows | fit | maps apart by | NLL | ECE | their NLL | their ECE | s | theirs |\n|" + " --- |" * 9)
    for size, classes in SIZES:
        for rival in rivals():
            print(compared(rival, size, classes), flush=True)


if __name__ == "__main__":
    main()
