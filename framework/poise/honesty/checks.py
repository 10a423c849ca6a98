"""All checks of an evaluation by attack, and what is told of them."""

from collections.abc import Iterator

from poise.evaluator import Findings
from poise.honesty.check import Check, table
from poise.honesty.huge_radius import huge_radius
from poise.honesty.noise import noise
from poise.honesty.outputs import probabilities, random_outputs
from poise.honesty.sample import Sample
from poise.honesty.square import square
from poise.honesty.steps import steps
from poise.honesty.transfer import transfer
from poise.honesty.zero_gradients import zero_gradients


def checks(sample: Sample) -> Iterator[Check]:
    """Each check on a sample, in the order in which they are told."""
    yield from steps(sample)
    yield transfer(sample)
    yield square(sample)
    yield zero_gradients(sample)
    yield huge_radius(sample)
    yield noise(sample)
    yield random_outputs(sample)
    yield probabilities(sample)


def honesty(sample: Sample, split: str, attack: str) -> Findings:
    """`<split>/honesty/<attack>/<check>` and how many are `flagged`, a table of all, and a doubt for each of those."""
    found = list(checks(sample))
    prefix = f"{split}/honesty/{attack}"
    metrics = {f"{prefix}/{check.name}": check.measured for check in found if check.measured is not None}
    metrics[f"{prefix}/flagged"] = float(sum(check.flagged for check in found))
    told = table(f"{split}, honesty of {attack}", found, len(sample))
    doubts = tuple(f"{attack} on {split} is in doubt by {check.warning()}" for check in found if check.flagged)
    return Findings(metrics, tables={f"{split}-{attack}-honesty": told}, doubts=doubts)
