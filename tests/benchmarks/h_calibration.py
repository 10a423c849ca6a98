"""h_calibration beside its authors' code: `python tests/benchmarks/h_calibration.py CHECKOUT` prints four tables.

CHECKOUT is a clone of WenjianHuang93/h-Calibration; times and errors need faiss-cpu, as that code does.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median, stdev
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, inf, nn

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.metrics import CalibrationError
from poise_recipes.calibration.h.clusters import cluster_sizes
from poise_recipes.calibration.h.objective import h_loss
from poise_recipes.calibration.h.selectors import SELECTORS
from poise_recipes.calibration.h_calibration import HCalibration
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

TABLES = ("losses", "optima", "steps", "errors")
WINDOW, SCALE = 201, 1e5
SIZE, CLASSES, TEST = 5000, 10, 20000
RATE, PLATEAU, PATIENCE = 5e-3, 20, 160  # of their training
INVERSES = [0.6 + 0.05 * step for step in range(29)]  # 1/T, up to 2


class OurClusters:
    """Stands where faiss's k-means does, and finds our clusters."""

    def __init__(self, dimensions: int, count: int) -> None:
        self.index = self

    def train(self, values: Any) -> None:
        self.sizes = cluster_sizes(torch.from_numpy(values[:, 0]))

    def search(self, values: Any, neighbours: int) -> tuple[None, Any]:
        return None, torch.arange(len(self.sizes)).repeat_interleave(self.sizes)[:, None].numpy()


@dataclass(frozen=True)
class Theirs:
    """What is used of their code."""

    loss: Any
    mixture: Any


def task(size: int, classes: int, seed: int = 0) -> Predictions:
    """Logits bent so that no temperature calibrates them."""
    keyed = torch.Generator().manual_seed(seed)
    honest = (3 * torch.randn(size, classes, generator=keyed, dtype=torch.float64)).log_softmax(-1)
    label = torch.multinomial(honest.exp(), 1, generator=keyed)[:, 0]
    logits = honest.sign() * honest.abs() ** 1.25 * 1.2
    return Predictions(logits=logits, features=None, label=label, group=None, index=torch.arange(size))


# -- the loss ------------------------------------------------------------------------------------------------------


def theirs_with_slope(theirs: Theirs, made: Predictions, leave_out: bool) -> tuple[float, float]:
    """Their loss, and its slope along an inverse temperature, at 1."""
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    probability = (made.logits * inverse).softmax(-1).float()
    value = theirs.loss(probability, made.label, IsIter=leave_out, num_classes=made.logits.shape[1]) / SCALE
    value.backward()
    assert inverse.grad is not None
    return float(value.detach()), float(inverse.grad)


def ours_with_slope(made: Predictions, leave_out: bool) -> tuple[float, float]:
    """The same of our loss; leaving a class out in turn is the mean over the rows of the others."""
    classes = made.logits.shape[1]
    left = [made.label != each for each in range(classes)] if leave_out else [torch.ones_like(made.label).bool()]
    parts = [_ours_on(made.logits[rows], made.label[rows]) for rows in left]
    loss, slope = (mean(each) for each in zip(*parts, strict=True))
    return loss, slope


def _ours_on(logits: Tensor, label: Tensor) -> tuple[float, float]:
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    probability = (logits * inverse).softmax(-1).float()
    occurred = F.one_hot(label, logits.shape[1]).bool().flatten()
    value, slope = h_loss(probability.detach().flatten(), occurred, WINDOW)
    probability.backward(slope.view_as(probability))
    assert inverse.grad is not None
    return float(value), float(inverse.grad)


def losses(theirs: Theirs) -> None:
    """Print both losses on the same probabilities and clusters."""
    print("| logits | a class left out | ours | theirs | loss apart by | slope apart by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size, classes, leave_out in (
        (400, 5, False),
        (SIZE, CLASSES, False),
        (1000, 100, False),
        (SIZE, 100, False),
        (400, 5, True),
        (SIZE, CLASSES, True),
    ):
        made = task(size, classes)
        ours, other = ours_with_slope(made, leave_out), theirs_with_slope(theirs, made, leave_out)
        apart = (f"{abs(a / b - 1):.0e}" for a, b in zip(ours, other, strict=True))
        turn = "each in turn" if leave_out else "none"
        print("|", " | ".join((f"{size} x {classes}", turn, f"{ours[0]:.7f}", f"{other[0]:.7f}", *apart)), "|")


# -- the optimum ---------------------------------------------------------------------------------------------------


def calibrated(commonest: float, classes: int, seed: int) -> Predictions:
    """Rows whose labels are drawn from the softmax of their logits, one class more likely before anything is seen."""
    keyed = torch.Generator().manual_seed(seed)
    before = torch.full((classes,), (1 - commonest) / (classes - 1), dtype=torch.float64)
    before[0] = commonest
    logits = 1.5 * torch.randn(SIZE, classes, generator=keyed, dtype=torch.float64) + before.log()
    label = torch.multinomial(logits.softmax(1), 1, generator=keyed)[:, 0]
    return Predictions.of(logits, label)


def best_inverse(made: Predictions, leave_out: bool) -> float:
    """The 1/T of a grid with the least loss; it is 1 where a loss does not move what is calibrated."""

    def loss(inverse: float) -> float:
        scaled = Predictions.of(made.logits * inverse, made.label)
        return ours_with_slope(scaled, leave_out)[0]

    return min(INVERSES, key=loss)


def optima(seeds: int) -> None:
    """Print where the loss is least on calibrated rows, the mean over draws."""
    print(
        "\n| classes | examples of the commonest | none left out | each left out in turn |\n| --- | --- | --- | --- |"
    )
    for classes, commonest in ((2, 0.5), (2, 0.9), (3, 1 / 3), (3, 0.9), (10, 0.1), (10, 0.8)):
        draws = [calibrated(commonest, classes, seed) for seed in range(seeds)]
        share = mean(float((made.label == 0).double().mean()) for made in draws)
        found = (mean(best_inverse(made, leave_out) for made in draws) for leave_out in (False, True))
        print(f"| {classes} | {share:.0%} | {' | '.join(f'{each:.2f}' for each in found)} |", flush=True)


# -- a step --------------------------------------------------------------------------------------------------------


class TheirTraining:
    """Their 16 temperatures, a step at a time."""

    def __init__(self, theirs: Theirs, made: Predictions, leave_out: bool) -> None:
        self.theirs, self.label, self.leave_out = theirs, made.label, leave_out
        self.logits = made.logits.float()
        self.model = theirs.mixture(16)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)

    def step(self) -> None:
        self.optimizer.zero_grad()
        loss = self.theirs.loss(self.model(self.logits), self.label, IsIter=self.leave_out, num_classes=CLASSES)
        loss.backward()
        self.optimizer.step()


def seconds(act: Callable[[], object]) -> float:
    """Of one call, the processor's, which other work on the machine does not lengthen much."""
    start = time.process_time()
    act()
    return time.process_time() - start


def our_step(mapping: Any, made: Predictions) -> float:
    """Seconds of a whole fit, its start included, over its steps."""
    calibrator = HCalibration(mapping, patience=10**6)
    return seconds(lambda: calibrator.fit(made)) / calibrator.steps


def steps(theirs: Theirs, turns: int) -> None:
    """Print what a step costs, in turn in one process."""
    made = task(SIZE, CLASSES)
    programs: dict[str, Callable[[], float]] = {
        "poise, mixture": lambda: our_step("mixture", made),
        "poise, piecewise": lambda: our_step("piecewise", made),
        "poise, monotone": lambda: our_step("monotone", made),
        "theirs, no class left out": lambda: seconds(TheirTraining(theirs, made, leave_out=False).step),
        "theirs": lambda: seconds(TheirTraining(theirs, made, leave_out=True).step),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, program in programs.items():
            times[name].append(program())
    print(f"\n| a step at {SIZE} x {CLASSES} | ms of the processor | min – max |\n| --- | --- | --- |")
    for name, taken in times.items():
        low, middle, high = (1e3 * each for each in (min(taken), median(taken), max(taken)))
        print(f"| {name} | {middle:.1f} | {low:.1f} – {high:.1f} |")


# -- what fits come to ---------------------------------------------------------------------------------------------


class Published(nn.Module):
    """A model of theirs as a map of logits to log-probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, logits: Tensor) -> Tensor:
        found: Tensor = self.model(logits.float()).double().log()
        return found


def their_fits(theirs: Theirs, made: Predictions, seed: int, epochs: int) -> dict[str, nn.Module]:
    """By selector, the epoch of their training that it is best at: rate and end by the calibration error."""
    torch.manual_seed(seed)
    training = TheirTraining(theirs, made, leave_out=False)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(training.optimizer, factor=0.5, patience=PLATEAU)
    best = dict.fromkeys(SELECTORS, inf)
    kept: dict[str, nn.Module] = {}
    least, waited = inf, 0
    for _ in range(epochs):
        training.step()
        now = Published(training.model)
        error = ece(now, made)
        plateau.step(error)
        for name, selector in SELECTORS.items():
            score = selector([now(made.logits).exp().t()], [made.label])
            if score <= best[name]:
                best[name], kept[name] = score, copy.deepcopy(now)
        least, waited = (error, 0) if error <= least else (least, waited + 1)
        if waited >= PATIENCE:
            break
    return kept


def ece(fitted: nn.Module, made: Predictions) -> float:
    metric = CalibrationError()
    metric.update(fitted(made.logits), made.label)
    return float(metric.compute())


def errors(theirs: Theirs, seeds: int, epochs: int) -> None:
    """Print calibration error and NLL on rows of their own after fits to as many draws of logits."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        made, test = task(SIZE, CLASSES, seed), task(TEST, CLASSES, 1000 + seed)
        fits: dict[str, nn.Module] = {"temperature_scaling": TemperatureScaling().fit(made)}
        fits |= {f"theirs, {name}": fit for name, fit in their_fits(theirs, made, seed, epochs).items()}
        fits |= {f"poise, {name}": _ours(made, selector=name) for name in SELECTORS}
        fits |= {f"poise, {name}": _ours(made, mapping=name) for name in ("piecewise", "monotone", "automatic")}
        for name, fit in fits.items():
            score = SELECTORS["proper_score"]([fit(test.logits).exp().t()], [test.label])
            found.setdefault(name, []).append((ece(fit, test), score))
    print(f"\n| fitted to {SIZE} x {CLASSES}, {seeds} draws | ECE | its deviation | NLL |\n| --- | --- | --- | --- |")
    for name, each in found.items():
        of_errors, of_scores = zip(*each, strict=True)
        print(f"| {name} | {mean(of_errors):.4f} | {stdev(of_errors):.4f} | {mean(of_scores):.4f} |")


def _ours(made: Predictions, **options: Any) -> Calibrator:
    return HCalibration(**options).fit(made)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", help="of the authors' code")
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="all by default")
    parser.add_argument("--turns", type=int, default=7, help="of each program that is timed")
    parser.add_argument("--seeds", type=int, default=5, help="draws of logits that fits are made to")
    parser.add_argument("--epochs", type=int, default=2000, help="of their training at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, options.checkout)
    import faiss  # type: ignore[import-not-found]
    from loss import hCalib  # type: ignore[import-not-found]
    from models.tsensemble_linear import EnsembleTempScal  # type: ignore[import-not-found]

    theirs = Theirs(hCalib.hcalibration, EnsembleTempScal)
    tables = options.tables or TABLES
    if "losses" in tables:
        hCalib.faiss = SimpleNamespace(Kmeans=OurClusters)
        losses(theirs)
        hCalib.faiss = faiss
    if "optima" in tables:
        optima(options.seeds)
    if "steps" in tables:
        steps(theirs, options.turns)
    if "errors" in tables:
        errors(theirs, options.seeds, options.epochs)


if __name__ == "__main__":
    main()
