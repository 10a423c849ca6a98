"""Scores of strangeness beside somebody else's code: `python tests/benchmarks/ood_peers.py FOLDER` prints a table.

FOLDER holds the package pytorch_ood, 0.4.0, which needs scikit-learn. Theirs is run as it is.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poise.uncertainty.detection import detection
from poise.uncertainty.energy import energy
from poise.uncertainty.entropy import entropy
from poise.uncertainty.mahalanobis import Mahalanobis
from poise.uncertainty.max_logit import max_logit
from poise.uncertainty.msp import msp
from poise.uncertainty.nearest_neighbours import NearestNeighbours

CLASSES, WIDTH, TRAIN, TEST, NEIGHBOURS = 10, 128, 10_000, 2_000, 50


def examples(rows: int, seed: int, away: float) -> tuple[Tensor, Tensor]:
    """Features around class means, `away` from them, and their classes."""
    means = 2 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    keyed = torch.Generator().manual_seed(seed)
    label = torch.arange(rows) % CLASSES
    return means[label] + away * torch.randn(rows, WIDTH, generator=keyed), label


def of_logits(theirs: Any) -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Ours and theirs by name."""
    return {
        "msp": (msp, lambda logits: -(-theirs.MaxSoftmax.score(logits)).log()),
        "entropy": (entropy, theirs.Entropy.score),
        "max_logit": (max_logit, theirs.MaxLogit.score),
        "energy": (energy, lambda logits: theirs.EnergyBased.score(logits, t=1.0)),
    }


def main() -> None:
    """The largest differences, relative to the largest value, and the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    sys.path.append(str(parser.parse_args().folder))
    theirs = importlib.import_module("pytorch_ood.detector")
    measures = importlib.import_module("pytorch_ood.metrics.functional")
    train, label = examples(TRAIN, 1, 1.0)
    usual, strange = examples(TEST, 2, 1.0)[0], examples(TEST, 3, 1.3)[0]
    logits = usual.double() @ torch.randn(WIDTH, CLASSES, generator=torch.Generator().manual_seed(4)).double() / 8
    for name, (own, other) in of_logits(theirs).items():
        told(name, own(logits), other(logits).double())
    mahalanobis = Mahalanobis().fit(train, label)
    peer = theirs.Mahalanobis(None).fit_features(train.double(), label)
    told(
        "mahalanobis", timed("ours", mahalanobis, usual), TRAIN * timed("theirs", peer.predict_features, usual).double()
    )
    nearest = NearestNeighbours(NEIGHBOURS).fit(train)
    neighbours = theirs.KNN(None, k=NEIGHBOURS, normalize=True).fit_features(train, label)
    told("knn", timed("ours", nearest, usual).double(), timed("theirs", neighbours.predict_features, usual).double())
    areas(measures, nearest(usual), nearest(strange))


def areas(measures: Any, usual: Tensor, strange: Tensor) -> None:
    """What both make of the same scores."""
    found = detection(usual, strange)
    scores, label = torch.cat([usual, strange]), torch.cat([torch.zeros(len(usual)), -torch.ones(len(strange))]).long()
    told("auroc", exact(found.auroc), measures.auroc(scores, label)[None])
    told("fpr_at_95_ood_recall", exact(found.fpr_at_95_ood_recall), measures.fpr_at_tpr(scores, label)[None])
    for positive, own in (("ood", found.aupr_out), ("id", found.aupr_in)):
        told(f"aupr, {positive} positive", exact(own), measures.aupr(scores, label, positive)[None])


def exact(value: float) -> Tensor:
    """A number as `told` takes it."""
    return torch.tensor([value], dtype=torch.float64)


def timed(whose: str, score: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """The score, with the seconds that it took told."""
    start = time.perf_counter()
    found = score(features)
    print(f"{whose}: {1e3 * (time.perf_counter() - start):.0f} ms")
    return found


def told(name: str, own: Tensor, other: Tensor) -> None:
    """The largest difference."""
    print(f"{name:22} {float((own - other).abs().max() / other.abs().max()):.1e}  of {float(other.abs().max()):.4g}")


if __name__ == "__main__":
    main()
