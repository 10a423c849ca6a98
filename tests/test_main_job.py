"""The main job, from data to predictor, on each device and in each way of computing on it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpus import job
from poise import Predictor, evaluate, fit
from poise.config.commands import Predict
from poise.predicting import main as predict

JOBS = [
    job("cpu"),
    job("float32", gpus=1),
    job("bf16", gpus=1, precision="bf16-mixed"),
    job("compile", gpus=1, precision="bf16-mixed", compile=True),
    job("ddp", gpus=2),
    job("zero2", gpus=1, strategy="deepspeed_zero2", precision="bf16-mixed"),
    job("zero3", gpus=2, strategy="deepspeed_zero3"),
]


@pytest.mark.parametrize("settings", JOBS)
def test_it_trains_evaluates_and_ships(settings: dict[str, Any], tmp_path: Path) -> None:
    strategy = settings.pop("strategy", "auto")
    if strategy != "auto":
        pytest.importorskip("deepspeed")
    run = tmp_path / "run"
    result = fit(
        "trades,mixup",
        trainer={"max_epochs": 1, "max_steps": 3, "batch_size": 64, "progress": False, **settings},
        strategy=strategy,
        evaluation={"name": ["clean", "adversarial"], "adversarial": {"steps": 2, "curve_examples": 32}},
        calibration="temperature_scaling",
        tracking="none",
        run_dir=str(run),
    )
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert result.metrics["test/robust_accuracy/pgd-2"] <= result.metrics["test/accuracy"]
    device = {"accelerator": settings["accelerator"], "progress": False}
    again = evaluate(run=run, evaluation="clean", trainer=device, tracking="none", run_dir=str(tmp_path / "again"))
    assert again.metrics["test/accuracy"] == pytest.approx(result.metrics["test/accuracy"], abs=0.01)
    inputs = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    assert predict(Predict(str(run), "inputs", str(tmp_path / "out.npz")), run, inputs) == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npz")["probabilities"], Predictor.load(run)(inputs).numpy(), atol=1e-3
    )
