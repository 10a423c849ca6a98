"""Metrics beside somebody else's code: `python tests/benchmarks/metric_peers.py FOLDER` prints a table.

FOLDER holds clones of apple/ml-calibration, p-lambda/verified_calibration, IML-DKFZ/fd-shifts,
zhang64-llnl/Mix-n-Match-Calibration and WenjianHuang93/h-Calibration, which need KDEpy, deprecation, scikit-learn and
SciPy. Theirs are run as they are.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_calibration_error

from poise.metrics import (
    AreaUnderGeneralisedRiskCoverage,
    AreaUnderRiskCoverage,
    BiasedSquaredKernelCalibrationError,
    CalibrationError,
    DebiasedCalibrationError,
    DebiasedSquaredCalibrationError,
    KDECalibrationError,
    MaximumCalibrationError,
    RootMeanSquareCalibrationError,
    SmoothCalibrationError,
    SquaredKernelCalibrationError,
    SweepCalibrationError,
)

CLASSES = 5
Peer = Callable[[Tensor, Tensor], float]


def task(seed: int, size: int, sharper: float) -> tuple[Tensor, Tensor]:
    """Probabilities, and labels drawn from less sharp ones."""
    keyed = torch.Generator().manual_seed(seed)
    honest = (1.5 * torch.randn(size, CLASSES, generator=keyed, dtype=torch.float64)).log_softmax(-1)
    labels = torch.multinomial(honest.exp(), 1, generator=keyed)[:, 0]
    return (sharper * honest).softmax(-1), labels


def top(probability: Tensor, labels: Tensor) -> tuple[Any, Any]:
    """Confidences and correctness as their codes take them."""
    confidence, predicted = probability.max(-1)
    return confidence.numpy(), (predicted == labels).double().numpy()


def module(folder: Path, name: str) -> ModuleType:
    """A module in a folder, whose neighbours it may import; what else the package would import stays away."""
    package = ModuleType(folder.name)
    package.__path__ = [str(folder)]
    sys.modules[folder.name] = package
    return importlib.import_module(f"{folder.name}.{name}")


def peers(folder: Path) -> list[tuple[str, Metric, Peer]]:
    """Names, our metrics, and theirs."""
    np.trapz = np.trapezoid  # type: ignore[attr-defined]  # as it was called when their code was written
    relplot = module(folder / "ml-calibration/src/relplot", "metrics")
    densities = module(folder / "Mix-n-Match-Calibration", "util_evaluation")
    verified = module(folder / "verified_calibration/calibration", "utils")
    selective = module(folder / "fd-shifts/fd_shifts/analysis", "rc_stats").RiskCoverageStats
    kernel = module(folder / "h-Calibration/utils", "skce")._SKCE
    binned = module(folder / "h-Calibration/utils", "utils")

    def of_verified(power: int, debias: bool) -> Peer:
        def value(probability: Tensor, labels: Tensor) -> float:
            found = verified._get_ce(
                probability.numpy(), labels.numpy(), power, debias, 15, verified.get_equal_prob_bins, "top-label"
            )
            return float(found)

        return value

    def of_torchmetrics(norm: Any) -> Peer:
        return lambda probability, labels: float(multiclass_calibration_error(probability, labels, CLASSES, 15, norm))

    def of_selective(name: str) -> Peer:
        def value(probability: Tensor, labels: Tensor) -> float:
            confidence, correct = top(probability, labels)
            return float(getattr(selective(confids=confidence, residuals=1 - correct), name)) / 1000

        return value

    def of_densities(probability: Tensor, labels: Tensor) -> float:
        return float(densities.ece_kde_binary(probability.numpy(), np.eye(CLASSES)[labels.numpy()]))

    def of_kernel(unbiased: bool) -> Peer:
        return lambda probability, labels: float(kernel(unbiased=unbiased)(probability.log(), labels))

    def of_debiased(probability: Tensor, labels: Tensor) -> float:
        pairs = np.stack(top(probability, labels), 1)
        ends = -(-len(pairs) * np.arange(1, 15) // 15)
        held = np.split(pairs[pairs[:, 0].argsort()], ends)  # into bins as ours are; theirs differ where 15 is no part
        return float(binned._DebiasedECELoss.normal_debiased_ce(held))

    def of_sweep(probability: Tensor, labels: Tensor) -> float:
        sweep = binned.CalibrationMetric(ce_type="em_ece_sweep", norm=1, multiclass_setting="top_label")
        return float(sweep.compute_error(probability.numpy(), np.eye(CLASSES)[labels.numpy()]))

    return [
        ("ECE, torchmetrics", CalibrationError(), of_torchmetrics("l1")),
        ("MCE, torchmetrics", MaximumCalibrationError(min_count=1), of_torchmetrics("max")),
        ("RMS, torchmetrics", RootMeanSquareCalibrationError(), of_torchmetrics("l2")),
        ("ECE, verified_calibration", CalibrationError(), of_verified(1, False)),
        ("RMS, verified_calibration", RootMeanSquareCalibrationError(), of_verified(2, False)),
        (
            "debiased, verified_calibration",
            DebiasedSquaredCalibrationError(),
            lambda p, y: of_verified(2, True)(p, y) ** 2,  # theirs is the root
        ),
        ("debiased ECE, h-Calibration", DebiasedCalibrationError(), of_debiased),
        ("sweep, h-Calibration", SweepCalibrationError(), of_sweep),
        ("smooth, relplot", SmoothCalibrationError(), lambda p, y: float(relplot.smECE(*top(p, y)))),
        ("KDE, Mix-n-Match", KDECalibrationError(), of_densities),
        ("SKCE, h-Calibration", SquaredKernelCalibrationError(CLASSES), of_kernel(True)),
        ("biased SKCE, h-Calibration", BiasedSquaredKernelCalibrationError(CLASSES), of_kernel(False)),
        ("AURC, fd-shifts", AreaUnderRiskCoverage(), of_selective("aurc")),
        ("AUGRC, fd-shifts", AreaUnderGeneralisedRiskCoverage(), of_selective("augrc")),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the clones")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tasks = [task(0, 3000, 1.3), task(1, 3000, 0.8), task(2, 400, 2.5)]
    print("| metric | ours | theirs | apart by at most |\n| --- | --- | --- | --- |")
    for name, metric, theirs in peers(options.folder):
        found = []
        for probability, labels in tasks:
            metric.reset()
            metric.update(probability.log(), labels)
            found.append((float(metric.compute()), theirs(probability, labels)))
        apart = max(abs(ours - other) for ours, other in found)
        print(f"| {name} | {found[0][0]:.7f} | {found[0][1]:.7f} | {apart:.0e} |", flush=True)


if __name__ == "__main__":
    main()
