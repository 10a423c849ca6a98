"""How a training went, for its report: its curves, the epoch that was chosen, and whether anything chose it."""

from poise.checkpoint import Manifest
from poise.evaluator import Findings
from poise.figures.training import Training
from poise.history import Curves
from poise.validation import NLL


def course(chosen: Manifest, curves: Curves) -> Findings:
    """A figure of the training, a note that names the chosen epoch, and a doubt where its metric told none apart.

    Args:
        chosen: checkpoint of the best epoch.
        curves: what was noted of the training; some may be missing.
    """
    facts, selection = chosen.facts, chosen.facts["selection"]
    epoch, epochs = facts["epoch"] + 1, int(max(curves.get("epoch", {}).values(), default=0))
    values = list(curves.get(selection, {}).values())
    which = f"Epoch {epoch} of {epochs}" if epochs >= epoch else f"Epoch {epoch}"
    by = f"{which} was chosen by {selection}={facts['score']:.4f}"
    ties = values.count(facts["score"])
    if ties > 1:
        by += f", of the {ties} epochs with that value {_decided(selection)}"
    return Findings(
        figures={"training": Training(curves, chosen=facts["step"], label=f"epoch {epoch}", selection=selection)},
        notes=(f"{by}.",),
        doubts=_doubts(selection, values) if len(values) == epochs else (),
    )


def _decided(selection: str) -> str:
    """What comes first of equals."""
    return "the earliest" if selection == NLL else f"the one of the lowest {NLL}"


def _doubts(selection: str, values: list[float]) -> tuple[str, ...]:
    """What to say where a metric was the same in every epoch."""
    if len(values) < 2 or len(set(values)) > 1:
        return ()
    same = f"selection={selection.removeprefix('val/')} was {values[0]:.4g} in all {len(values)} epochs"
    return (f"{same} and chose none of them: {_decided(selection)} is shipped",)
