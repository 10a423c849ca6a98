"""A loss that is no number on one of two ranks: both name the step, and nothing later is called good."""

from pathlib import Path

import pytest
import torch

from poise import checkpoint
from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step
from poise.watch import NonFiniteLoss
from ranks import Pair
from small_runs import small_fit


class DivergesOnOneRank(Recipe):
    """Infinite on rank 1 from one step on, in the second of its micro-batches alone."""

    def objective(self, batch: Batch, step: Step) -> Outcome:
        outcome = super().objective(batch, step)
        bad = step.global_step >= 6 and step.ranks.rank == 1 and step.first_block >= step.ranks.size
        return outcome.replace(loss=outcome.loss * (torch.inf if bad else 1.0))


def diverged(run_dir: str) -> str:
    trainer = {"devices": 2, "block": 4, "accumulate": 2, "checkpoint_every": 1}
    with pytest.raises(NonFiniteLoss) as caught:
        small_fit(run_dir, [DivergesOnOneRank()], trainer=trainer)
    return str(caught.value)


def test_the_step_is_exact_on_both_ranks_with_micro_batches_and_after_going_on(pair: Pair, tmp_path: Path) -> None:
    for _ in range(2):
        for said in pair.run(diverged, str(tmp_path / "run")):
            assert "the loss of step 6 is not finite" in said
            assert said.endswith("step-00000006")
        kept = checkpoint.newest(tmp_path / "run" / "checkpoints")
        assert kept is not None
        assert kept.facts["step"] == 6
        weights = torch.load(kept.state, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())
