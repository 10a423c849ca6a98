"""Rules by which sets of labels are made: what is strange, and how strange a label may be."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from poise.conformal.strangeness import aps, check_uniform, lac, places, raps
from poise.conformal.threshold import threshold, thresholds_by_class
from poise.examples import check_labels, check_logits
from poise.meanings import meaning

PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)  # that RAPS chooses from, those of the authors' code
PIECE = 2**22  # scores that are held at once

Strangeness = Callable[[Float[Tensor, "N C"], Float[Tensor, " N"]], Float[Tensor, "N C"]]


@dataclass(frozen=True)
class Held:
    """Predictions for examples that are labelled.

    Args:
        logits: of a model, calibrated or not.
        label: in 0…C-1.
        u: a random number for each example, uniform in [0, 1), that hangs on nothing else.

    Raises:
        UserError: logits are no floats [N, C], labels no integers [N] in 0…C-1, or u no floats [N] in [0, 1].
    """

    logits: Float[Tensor, "N C"]
    label: Int[Tensor, " N"]
    u: Float[Tensor, " N"]

    def __post_init__(self) -> None:
        check_logits(self.logits, "Held")
        check_labels(self.label, len(self.logits), self.logits.shape[1], "Held")
        check_uniform(self.u, len(self.logits), "Held")

    def rows(self, chosen: Int[Tensor, " M"]) -> "Held":
        """Those at these positions."""
        return Held(self.logits[chosen], self.label[chosen], self.u[chosen])


@dataclass(frozen=True)
class Rule:
    """The labels that are no stranger than a threshold.

    Args:
        strangeness: (logits, u) -> scores, the stranger the higher.
        most: one threshold, or one of each class; inf takes every label in.
        settled: what was chosen for it beside that, in words; "" where nothing was.
    """

    strangeness: Strangeness
    most: Float[Tensor, "*classes"]
    settled: str = ""

    def sets(self, logits: Float[Tensor, "N C"], u: Float[Tensor, " N"]) -> Bool[Tensor, "N C"]:
        """Which labels are in the set of each example; all where its logits are no numbers."""
        rows = torch.arange(len(logits)).split(max(1, PIECE // logits.shape[1]))
        return torch.cat([~(self.strangeness(logits[some], u[some]) > self.most) for some in rows])


@dataclass(frozen=True)
class Raps:
    """RAPS with what it asks for: a penalty for each label further down than the free places."""

    penalty: float
    free: int

    def __call__(self, logits: Float[Tensor, "N C"], u: Float[Tensor, " N"]) -> Float[Tensor, "N C"]:
        """How strange each label is."""
        return raps(logits, u, self.penalty, self.free)

    def __str__(self) -> str:
        places = "1 free place" if self.free == 1 else f"{self.free} free places"
        return f"penalty {self.penalty:g} after {places}"


def rule(strangeness: Strangeness, held: Held, alpha: float) -> Rule:
    """With one threshold: true labels are in the sets with a probability of 1 - alpha or more, over all examples."""
    most = threshold(_of_labels(strangeness, held), alpha)
    return Rule(strangeness, torch.tensor(most, dtype=torch.float64))


def rule_by_class(strangeness: Strangeness, held: Held, alpha: float) -> Rule:
    """LAC with a threshold for each class: true labels are in the sets with the same probability in every class."""
    of_labels = _of_labels(strangeness, held)
    return Rule(strangeness, thresholds_by_class(of_labels, held.label, held.logits.shape[1], alpha))


def rules(tuning: Held, held: Held, alpha: float) -> dict[str, Rule]:
    """All rules by name: `lac`, `aps`, `raps`, and `class_conditional`, which is LAC with a threshold for each class.

    Args:
        tuning: to choose by what RAPS asks for; none of them among the others.
        held: to set thresholds by; nothing was fitted to them.
        alpha: share of the sets, at most, without the true label; in (0, 1).
    """
    chosen = tuned_raps(tuning, alpha)
    return {
        "lac": rule(_lac, held, alpha),
        "aps": rule(aps, held, alpha),
        "raps": replace(rule(chosen, held, alpha), settled=str(chosen)),
        "class_conditional": rule_by_class(_lac, held, alpha),
    }


def meanings() -> dict[str, str]:
    """What each of `rules` is, in a line."""
    named = {"lac": lac, "aps": aps, "raps": raps, "class_conditional": rule_by_class}
    return {name: meaning(rule) for name, rule in named.items()}


def tuned_raps(tuning: Held, alpha: float) -> Raps:
    """RAPS with the free places that hold most true labels, and the penalty with the smallest sets on these examples.

    Source: Angelopoulos et al., 2021, arXiv 2009.14193, section 2.4 and algorithm 4. Departures from the authors' code:
    the place that holds a share of 1 - alpha of the labels is found with the correction for finitely many examples,
    which the paper has and the code leaves out.

    Args:
        tuning: examples, which thresholds may not be set by.
        alpha: in (0, 1).
    """
    place = threshold(places(tuning.logits).gather(1, tuning.label[:, None])[:, 0].double(), alpha)
    free = int(min(place, tuning.logits.shape[1]))
    tried = [Raps(penalty, free) for penalty in PENALTIES]
    return min(tried, key=lambda strangeness: _mean_size(rule(strangeness, tuning, alpha), tuning))


def _mean_size(made: Rule, examples: Held) -> float:
    return float(made.sets(examples.logits, examples.u).sum(1).double().mean())


def _of_labels(strangeness: Strangeness, held: Held) -> Float[Tensor, " N"]:
    """How strange the true labels are."""
    rows = torch.arange(len(held.label)).split(max(1, PIECE // held.logits.shape[1]))
    return torch.cat(
        [strangeness(held.logits[some], held.u[some]).gather(1, held.label[some, None])[:, 0] for some in rows]
    )


def _lac(logits: Float[Tensor, "N C"], _: Float[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """LAC, which draws nothing."""
    return lac(logits)
