"""Ten scores that claims compare calibrators by, each better the lower it is; and the calibrators."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claims.claim import Effect, Numbers
from claims.training import Arm
from poise import registry
from poise.batch import Predictions
from poise.evaluation.calibration import further_scores
from poise.metrics.summary import summarised

OURS = "h_calibration"
POINTS, THOUSANDTHS, TEN_THOUSANDTHS = 100, 1000, 10_000
UNITS = {
    "ece": POINTS,
    "ece_equal_mass": POINTS,
    "ks": POINTS,
    "smooth_ece": POINTS,
    "kde_ece": POINTS,
    "mmce": POINTS,
    "classwise_ece": THOUSANDTHS,
    "skce": TEN_THOUSANDTHS,
    "brier": THOUSANDTHS,
    "nll": THOUSANDTHS,
}
BINS = 15


def ten_scores(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> dict[str, float]:
    """Each score by name, in its unit."""
    scores = {**summarised(logits, label, BINS).scores, **further_scores(logits, label, BINS)}
    scores["mmce"] = scores["top_label_mmce"]
    return {name: unit * scores[name] for name, unit in UNITS.items()}


def calibrators() -> tuple[Arm, ...]:
    """No calibrator, and each that there is as it is when nothing is said."""
    names = (name for name in registry.records("calibrator") if not name.startswith("_"))
    return (Arm("uncalibrated"), *(Arm(name, {"name": name}) for name in names))


def recalibrated(arm: Arm, held_out: Predictions, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Logits after an arm's calibrator, which is fitted to held-out ones; computed in double precision."""
    if not arm.recipe:
        return logits.double()
    parameters = {name: value for name, value in arm.recipe.items() if name != "name"}
    with torch.no_grad():
        return registry.build("calibrator", arm.recipe["name"], **parameters).fit(held_out)(logits.double())


def better(other: str, score: str, what: str, source: str, paper: dict[str, float | None]) -> Effect:
    """How much lower h-calibration is than another arm."""

    def difference(arms: Mapping[str, Numbers]) -> float:
        return arms[other][score] - arms[OURS][score]

    return Effect(f"{what} of {other} above that of {OURS}", difference, paper, source)
