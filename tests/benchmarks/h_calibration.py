"""h_calibration beside its authors' code: `python tests/benchmarks/h_calibration.py CHECKOUT` prints two tables.

CHECKOUT is a clone of WenjianHuang93/h-Calibration; the times need faiss-cpu, as that code does.
"""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from poise.batch import Predictions
from poise_recipes.calibration.h_calibration import HCalibration, cluster_sizes, h_loss

WINDOW, SCALE = 201, 1e5
SIZE, CLASSES = 5000, 10


class OurClusters:
    """Stands where faiss's k-means does, and finds our clusters."""

    def __init__(self, dimensions: int, count: int) -> None:
        self.index = self

    def train(self, values: Any) -> None:
        self.sizes = cluster_sizes(torch.from_numpy(values[:, 0]).double())

    def search(self, values: Any, neighbours: int) -> tuple[None, Any]:
        return None, torch.arange(len(self.sizes)).repeat_interleave(self.sizes)[:, None].numpy()


def task(size: int, classes: int) -> Predictions:
    """Logits bent so that no temperature calibrates them."""
    keyed = torch.Generator().manual_seed(0)
    honest = (3 * torch.randn(size, classes, generator=keyed, dtype=torch.float64)).log_softmax(-1)
    label = torch.multinomial(honest.exp(), 1, generator=keyed)[:, 0]
    logits = honest.sign() * honest.abs() ** 1.25 * 1.2
    return Predictions(logits=logits, features=None, label=label, group=None, index=torch.arange(size))


def theirs_with_slope(theirs: Any, made: Predictions) -> tuple[float, float]:
    """Their loss, and its slope along an inverse temperature, at 1."""
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    probability = (made.logits * inverse).softmax(-1).float()
    value = theirs(probability, made.label, IsIter=False, num_classes=made.logits.shape[1]) / SCALE
    value.backward()
    assert inverse.grad is not None
    return float(value.detach()), float(inverse.grad)


def ours_with_slope(made: Predictions) -> tuple[float, float]:
    """The same of our loss."""
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    probability = (made.logits * inverse).softmax(-1).float()
    occurred = F.one_hot(made.label, made.logits.shape[1]).double().flatten()
    value, slope = h_loss(probability.detach().flatten(), occurred, WINDOW)
    probability.backward(slope.view_as(probability))
    assert inverse.grad is not None
    return float(value), float(inverse.grad)


def compare(theirs: Any, size: int, classes: int) -> str:
    """One line of the first table: both losses on the same probabilities and clusters."""
    made = task(size, classes)
    ours, other = ours_with_slope(made), theirs_with_slope(theirs, made)
    apart = (abs(a / b - 1) for a, b in zip(ours, other, strict=True))
    cells = (f"{size} x {classes}", f"{ours[0]:.7f}", f"{other[0]:.7f}", *(f"{each:.0e}" for each in apart))
    return f"| {' | '.join(cells)} |"


def their_step(theirs: Any, mixture: Any, made: Predictions, leave_out: bool) -> Callable[[], None]:
    """A step of their training, with their 16 temperatures in single precision."""
    model, logits = mixture(16), made.logits.float()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def step() -> None:
        optimizer.zero_grad()
        theirs(model(logits), made.label, IsIter=leave_out, num_classes=CLASSES).backward()
        optimizer.step()

    return step


def seconds(act: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", help="of the authors' code")
    parser.add_argument("--turns", type=int, default=7, help="of each program")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, options.checkout)
    import faiss
    from loss import hCalib  # type: ignore[import-not-found]
    from models.tsensemble_linear import EnsembleTempScal  # type: ignore[import-not-found]

    hCalib.faiss = SimpleNamespace(Kmeans=OurClusters)
    print("| logits | ours | theirs | loss apart by | slope apart by |\n| --- | --- | --- | --- | --- |")
    for size, classes in ((400, 5), (SIZE, CLASSES), (1000, 100)):
        print(compare(hCalib.hcalibration, size, classes))
    hCalib.faiss = faiss
    made, steps = task(SIZE, CLASSES), HCalibration().steps
    programs: dict[str, Callable[[], float]] = {
        "poise": lambda: seconds(lambda: HCalibration().fit(made)) / steps,
        "theirs, no class left out": lambda: seconds(their_step(hCalib.hcalibration, EnsembleTempScal, made, False)),
        "theirs": lambda: seconds(their_step(hCalib.hcalibration, EnsembleTempScal, made, True)),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.turns):
        for name, program in programs.items():
            times[name].append(program())
    print(f"\n| a step at {SIZE} x {CLASSES} | ms | min – max |\n| --- | --- | --- |")
    for name, taken in times.items():
        low, middle, high = (1e3 * each for each in (min(taken), median(taken), max(taken)))
        print(f"| {name} | {middle:.1f} | {low:.1f} – {high:.1f} |")


if __name__ == "__main__":
    main()
