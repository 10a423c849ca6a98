"""What a plan says of a step and what the step takes: passes the same, memory and bytes within a tenth.

How they are measured stands in measured_steps.py. Of two ranks the one with less counts: what a thread of gloo's gives
back goes unseen, and can only seem to be held.
"""

from typing import Any

import pytest

from measured_steps import measure
from poise.config import compose
from poise.config.planning import Machines, Plan
from poise.given import Objects
from poise.parts import load_splits
from poise.planning.outlook import outlook
from poise.planning.rehearsal import rehearse
from poise.recipe import Passes
from ranks import Pair

FEW: dict[str, Any] = {"recipe.pgd.steps": 3}
SMALL: dict[str, Any] = {"model": "small_bn_cnn", "trainer.batch_size": 64}
LARGE: dict[str, Any] = {"model": "resnet18", "trainer.batch_size": 8, "trainer.block": 4}
GROUPS = {"data": "colored_digits"}
STEPS: dict[str, dict[str, Any]] = {
    "plain under DDP": {**SMALL, "strategy": "ddp"},
    "TRADES under DDP": {**SMALL, "model": "small_cnn", "recipe": "trades", **FEW, "strategy": "ddp"},
    "in parts": {**SMALL, "recipe": "projection_head,pgd_at,cutmix", **FEW, "trainer.accumulate": 2, "strategy": "ddp"},
    "in bfloat16": {**SMALL, "recipe": "fgsm_rs", "trainer.precision": "bf16-mixed", "strategy": "ddp"},
    "mixed, by groups": {**SMALL, **GROUPS, "recipe": "mixup,group_dro", "strategy": "deepspeed_zero1"},
    "perturbed and averaged": {**SMALL, "recipe": "trades,awp,ema", **FEW, "strategy": "deepspeed_zero2"},
    "a contrast over ranks": {**SMALL, "recipe": "sup_con", "optimizer": "adamw", "strategy": "deepspeed_zero3"},
    "large, averaged": {**LARGE, "recipe": "ema", "strategy": "ddp"},
    "large, stage 2": {**LARGE, "strategy": "deepspeed_zero2"},
    "large, stage 3": {**LARGE, "strategy": "deepspeed_zero3"},
}
ON_RANKS = {"trainer.devices": 2, "trainer.accelerator": "cpu"}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_takes_what_was_planned(name: str, pair: Pair) -> None:
    values = {**STEPS[name], **ON_RANKS}
    config = compose(values)
    rehearsal = rehearse(config, load_splits(config, Objects()))
    expected = outlook(Plan(config, Machines()), rehearsal, config.strategy)
    ranks = pair.run(measure, values, timeout=240)
    for rank in ranks:
        assert Passes(*rank["passes"]) == rehearsal.passes
        assert expected.sent + expected.by_recipes == pytest.approx(rank["sent"], rel=0.1)
    assert expected.memory.total == pytest.approx(min(rank["memory"] for rank in ranks), rel=0.1)
