"""Stacks around adversarial training, from data to calibrated predictions: losses are finite and fall."""

import math
from pathlib import Path
from typing import Any

import pytest

from poise import fit
from poise.history import History
from poise.run_directory import RunDirectory

GROUPS = {"name": "colored_digits", "test_correlation": 0.9}
LONG_TAIL = {"name": "digits,long_tail", "long_tail": {"factor": 4}}


@pytest.mark.parametrize(
    ("recipe", "data", "epochs"),
    [
        ("trades,awp,mixup,group_dro", GROUPS, 6),
        ("mart,srat", LONG_TAIL, 3),
        ("free_at,cutmix", "digits", 2),
    ],
)
def test_it_trains_and_is_calibrated(recipe: str, data: Any, epochs: int, tmp_path: Path) -> None:
    run = fit(
        recipe,
        data=data,
        model={"name": "small_cnn", "width": 4},
        optimizer={"name": "adamw", "lr": 0.01},
        trainer={"max_epochs": epochs, "batch_size": 64, "progress": False, "accelerator": "cpu"},
        evaluation="clean",
        calibration="h_calibration",
        tracking="none",
        run_dir=str(tmp_path),
    )
    curves = History(RunDirectory(run.path).curves).read()
    losses = list(curves["train/loss"].values())
    assert all(map(math.isfinite, [*losses, *run.metrics.values()]))
    assert losses[-1] < losses[0]
    assert run.metrics["test/h_calibration/nll"] < run.metrics["test/nll"]
