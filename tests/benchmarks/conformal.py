"""Conformal sets beside those of other people's code, on the same logits and random numbers.

    python tests/benchmarks/conformal.py TORCHCP CONFORMAL_CLASSIFICATION PROVABLY_ROBUST

takes checkouts of ml-stat-Sustech/TorchCP, aangelopoulos/conformal_classification and
Trustworthy-ML-Lab/Provably-Robust-Conformal-Prediction; MAPIE where it is installed. Prints the table of README.md.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import Tensor

from poise.conformal.robust import bernstein, hoeffding, hps, ptt, robust_sets, robust_threshold
from poise.conformal.rules import Held, rule, rule_by_class
from poise.conformal.strangeness import aps, lac, raps

CLASSES, ALPHA, TRIALS, CALIBRATION, TESTS = 20, 0.1, 20, 198, 500
PENALTY, FREE = 0.1, 3
COPIES, BETA, SIGMA_OVER = 256, 0.001, 0.5

Numbers = dict[str, float]


def held(count: int, seed: int) -> Held:
    """Logits that are right about their labels."""
    keyed = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, generator=keyed, dtype=torch.float64)
    label = torch.multinomial(logits.softmax(1), 1, generator=keyed)[:, 0]
    return Held(logits, label, torch.rand(count, generator=keyed))


def trials() -> Iterator[tuple[Held, Held]]:
    """Examples that set thresholds, and others."""
    for trial in range(TRIALS):
        yield held(CALIBRATION, 2 * trial), held(TESTS, 2 * trial + 1)


def without_their_first_import(root: Path, *names: str) -> None:
    """Packages as folders: what their `__init__` would import is not needed for what is compared."""
    for name in names:
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")))]
        sys.modules[name] = package


def torchcp(checkout: Path) -> Iterator[tuple[str, float]]:
    """Share of memberships that are alike, of each rule."""
    packages = ("torchcp", "torchcp.classification", "torchcp.classification.score", "torchcp.classification.predictor")
    without_their_first_import(checkout, *packages)
    sys.path.insert(0, str(checkout))
    score, predictor = "torchcp.classification.score", "torchcp.classification.predictor"
    split = import_module(f"{predictor}.split").SplitPredictor
    by_class = import_module(f"{predictor}.class_conditional").ClassConditionalPredictor
    theirs_lac = import_module(f"{score}.lac").LAC(score_type="softmax")
    theirs_aps = import_module(f"{score}.aps").APS(score_type="softmax", randomized=False)
    theirs_raps = import_module(f"{score}.raps").RAPS(
        score_type="softmax", randomized=False, penalty=PENALTY, kreg=FREE
    )
    pairs: dict[str, tuple[Callable[..., Any], Any, Any, Callable[..., Any]]] = {
        "lac": (split, theirs_lac, rule, lambda logits, u: lac(logits)),
        "aps, u = 0": (split, theirs_aps, rule, lambda logits, u: aps(logits, 0 * u)),
        "raps, u = 0": (split, theirs_raps, rule, lambda logits, u: raps(logits, 0 * u, PENALTY, FREE)),
        "class_conditional": (by_class, theirs_lac, rule_by_class, lambda logits, u: lac(logits)),
    }
    for name, (kind, their_score, made, strangeness) in pairs.items():
        alike = []
        for calibration, tests in trials():
            other = kind(their_score, alpha=ALPHA)
            other.calculate_threshold(calibration.logits, calibration.label)
            sets = torch.as_tensor(other.predict_with_logits(tests.logits)).bool()
            alike.append((sets == made(strangeness, calibration, ALPHA).sets(tests.logits, tests.u)).double().mean())
        yield f"TorchCP, {name}", float(torch.stack(alike).mean())


def conformal_classification(checkout: Path) -> Iterator[tuple[str, float]]:
    """How far true labels' scores are apart, with the same random numbers; and coverage, by another quantile."""
    theirs = alone(checkout, "conformal")
    apart, coverage = [], []
    for calibration, tests in trials():
        penalties = np.zeros((1, CLASSES))
        penalties[:, FREE:] += PENALTY
        found = []
        for examples in (calibration, tests):
            p = examples.logits.softmax(1).numpy()
            with patch.object(theirs.np.random, "random", side_effect=(1 - examples.u.double()).tolist()):
                found.append(their_scores(theirs, p, examples.label, penalties))
            ours = raps(examples.logits, examples.u, PENALTY, FREE).gather(1, examples.label[:, None])[:, 0]
            apart.append(float((ours - torch.from_numpy(found[-1])).abs().max()))
        most = np.quantile(found[0], 1 - ALPHA, method="higher")
        own = rule(partial(raps, penalty=PENALTY, free=FREE), calibration, ALPHA)
        covered = own.sets(tests.logits, tests.u).gather(1, tests.label[:, None]).double().mean()
        coverage.append(float(covered) - float((found[1] <= most).mean()))
    yield "conformal_classification, raps: scores apart, at most", max(apart)
    yield "conformal_classification, raps: our coverage above theirs, mean", float(np.mean(coverage))


def their_scores(theirs: Any, p: Any, label: Tensor, penalties: Any) -> Any:
    """Those of true labels, one by one: `giq` fills an array with arrays of one number, which NumPy takes no more."""
    order, ordered, below = theirs.sort_sum(p)
    return np.array(
        [
            np.squeeze(
                theirs.get_tau(
                    p[i : i + 1],
                    int(label[i]),
                    *(part[i : i + 1] for part in (order, ordered, below)),
                    penalties[0],
                    True,
                    True,
                )
            )
            for i in range(len(p))
        ]
    )


def provably_robust(checkout: Path) -> Iterator[tuple[str, float]]:
    """Scores, bounds and sets of RSCP+ with PTT."""
    strange = ("Architectures", "Architectures.MLP", "Architectures.ResNet", "Third_Party")
    smoothing = ("smoothing_adversarial", "smoothing_adversarial.attacks", "smoothing_adversarial.architectures")
    for name in (*strange, *(f"Third_Party.{part}" for part in smoothing)):
        sys.modules[name] = MagicMock()
    theirs, scores = alone(checkout / "code", "utils"), alone(checkout / "code", "Score_Functions")
    keyed = torch.Generator().manual_seed(0)
    known = hps(held(500, 0).logits).gather(1, held(500, 0).label[:, None])[:, 0]
    ranked = scores.ranking_score(known.numpy(), scores.class_probability_score)
    squashed = scores.sigmoid_score(ranked, T=400, bias=1 - ALPHA)
    transformed = ptt(known, ALPHA)
    p = held(TESTS, 1).logits.softmax(1)
    their_scores = squashed(p.numpy(), np.arange(CLASSES), None, all_combinations=True)
    yield (
        "RSCP+: scores by PTT apart, at most",
        float((transformed(1 - p) - torch.from_numpy(their_scores)).abs().max()),
    )
    noisy = torch.rand(30, 1, CLASSES, generator=keyed) + 0.3 * torch.randn(30, COPIES, CLASSES, generator=keyed)
    noisy = noisy.double().clamp(0, 1)
    mean, above = noisy.mean(1), bernstein(noisy.var(1), COPIES, BETA)
    their_bound = torch.from_numpy(theirs.calculate_Bern_bound(noisy.numpy(), BETA))
    yield "RSCP+: Bernstein's bounds apart, at most", float((above - their_bound).abs().max())
    quantiles = theirs.mquantiles  # an array of one number, which NumPy takes no more
    theirs.mquantiles = lambda scores, prob: quantiles(scores, prob=prob)[0]
    alike, interpolated = list[float](), list[float]()
    below = hoeffding(COPIES, BETA)
    for trial in range(TRIALS):
        of_labels = 0.7 * torch.rand(CALIBRATION, generator=torch.Generator().manual_seed(trial), dtype=torch.float64)
        most = robust_threshold(of_labels, ALPHA, BETA)
        level = theirs.calibration(smoothed_scores=of_labels[None].numpy(), alpha=ALPHA - 2 * BETA, num_of_scores=1)
        ours = robust_sets(mean, above, most, below, SIGMA_OVER)
        for threshold, shares in ((np.array([[0.0, most]]), alike), (level, interpolated)):
            arrays = {"smoothed_scores": mean[None].numpy(), "bounds_bern": above[None].numpy(), "bound_hoef": below}
            _, sets = theirs.prediction(
                num_of_scores=1, thresholds=level, threshold_RSCP_plus=threshold, correction=SIGMA_OVER, **arrays
            )[0]
            member = torch.zeros_like(ours)
            for row, labels in enumerate(sets):
                member[row, labels] = True
            shares.append(float((member == ours).double().mean()))
    yield "RSCP+: memberships alike, by our threshold", float(np.mean(alike))
    yield "RSCP+: memberships alike, by theirs, which is interpolated", float(np.mean(interpolated))


def mapie() -> Iterator[tuple[str, float]]:
    """Share of memberships that are alike; probabilities are what it asks an estimator for."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    split = import_module("mapie.classification").SplitConformalClassifier

    class Given(ClassifierMixin, BaseEstimator):
        """Probabilities in place of inputs."""

        classes_ = np.arange(CLASSES)
        n_features_in_ = CLASSES

        def fit(self, x: Any, y: Any) -> "Given":
            return self

        def predict_proba(self, x: Any) -> Any:
            return x

        def predict(self, x: Any) -> Any:
            return x.argmax(1)

    choices: dict[str, tuple[dict[str, str], Callable[..., Tensor]]] = {
        "lac": ({}, lambda logits, u: lac(logits)),
        "aps": ({"include_last_label": "randomized"}, aps),
    }
    for name, (parameters, strangeness) in choices.items():
        alike = []
        for trial, (calibration, tests) in enumerate(trials()):
            given, asked = (replace(some, u=_mapies(trial, len(some.label))) for some in (calibration, tests))
            p, q = given.logits.softmax(1).numpy(), asked.logits.softmax(1).numpy()
            other = split(Given(), 1 - ALPHA, name, random_state=trial)
            other.conformalize(p, given.label.numpy())
            sets = torch.from_numpy(other.predict_set(q, conformity_score_params=parameters)[1][:, :, 0])
            alike.append((sets == rule(strangeness, given, ALPHA).sets(asked.logits, asked.u)).double().mean())
        yield f"MAPIE, {name}", float(torch.stack(alike).mean())


def _mapies(seed: int, count: int) -> Tensor:
    """Its random numbers, which begin again for each batch of examples."""
    return torch.from_numpy(np.random.RandomState(seed).uniform(size=count))


def alone(folder: Path, name: str) -> Any:
    """A module of a folder, and none of the same name that was imported before."""
    sys.modules.pop("utils", None)
    sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    finally:
        sys.path.pop(0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("torchcp", "conformal_classification", "provably_robust"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| what is compared | value |\n| --- | --- |")
    for found in (torchcp(given.torchcp), conformal_classification(given.conformal_classification)):
        for name, value in found:
            print(f"| {name} | {value:.6g} |")
    for name, value in provably_robust(given.provably_robust):
        print(f"| {name} | {value:.6g} |")
    try:
        for name, value in mapie():
            print(f"| {name} | {value:.6g} |")
    except ModuleNotFoundError:
        print("MAPIE is not installed.", file=sys.stderr)


if __name__ == "__main__":
    main()
