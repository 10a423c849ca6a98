"""Sets, selection and strange inputs of what is shipped: mean weights, refitted heads, calibrators, two members."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from poise import evaluate
from poise.data.dataset import Arrays, Splits
from poise.predictor import Predictor
from poise.result import Result
from small_runs import rows, small_fit, splits

EVALUATION: dict[str, Any] = {
    "name": "conformal,selective,ood",
    "conformal": {"attacked": True, "steps": 2, "copies": 8, "attack_copies": 2, "smoothed_examples": 20},
    "ood": {"neighbours": 5},
}
TOLD = {
    "conformal/lac/coverage",
    "conformal/pgd-2/class_conditional/coverage",
    "conformal/smoothed-pgd-2/rscp_plus/coverage",
    "selective/msp/aurc",
    "ood/noise/energy/auroc",
}
OF_FEATURES = {"selective/centroid/aurc", "ood/noise/knn/auroc", "ood/noise/mahalanobis/auroc"}
CALIBRATED = {"conformal/aps/coverage", "selective/msp/aurc", "ood/noise/entropy/auroc"}


def data() -> Splits:
    noise = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    return splits(ood={"noise": Arrays(noise, torch.full((30,), -1))}, calibration=rows(48, 2))


def run(folder: Path, recipe: Any, **groups: Any) -> Result:
    return small_fit(
        folder,
        recipe,
        model={"name": "small_bn_cnn", "width": 4},
        trainer={"max_epochs": 1},
        data=data(),
        evaluation=EVALUATION,
        threat={"name": "l2", "eps": 0.1},
        **groups,
    )


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run whose shipped weights are no trained ones: their mean, with a head that was fitted after training."""
    calibration = ["temperature_scaling", "isotonic"]
    return run(tmp_path_factory.mktemp("averaged") / "run", ["ema", "projection_head"], calibration=calibration)


@pytest.fixture(scope="module")
def contrasted(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(tmp_path_factory.mktemp("contrasted") / "run", "sup_con", calibration="temperature_scaling")


def missing(result: Result, *names: str) -> list[str]:
    """Which of these numbers of test are not there, or are none."""
    return [name for name in names if not math.isfinite(result.metrics.get(f"test/{name}", math.nan))]


def test_of_mean_weights_and_a_refitted_head_all_is_told(averaged: Result) -> None:
    calibrated = (f"{name}/{told}" for name in ("temperature_scaling", "isotonic") for told in CALIBRATED)
    assert not missing(averaged, *TOLD, *OF_FEATURES, *calibrated)


def test_of_a_contrast_all_is_told(contrasted: Result) -> None:
    assert not missing(contrasted, *TOLD, *OF_FEATURES, *(f"temperature_scaling/{told}" for told in CALIBRATED))


def test_a_shipped_run_with_its_calibrator_is_told_of_alike(averaged: Result, tmp_path: Path) -> None:
    again = evaluate(
        data=data(),
        run=averaged.path,
        evaluation=EVALUATION,
        threat={"name": "l2", "eps": 0.1},
        tracking="none",
        run_dir=str(tmp_path / "again"),
    )
    (shipped,) = (
        name for name in ("temperature_scaling", "isotonic") if not missing(again, f"{name}/selective/msp/aurc")
    )
    assert not missing(again, *TOLD, *OF_FEATURES, *(f"{shipped}/{told}" for told in CALIBRATED))
    assert Predictor.load(averaged.path).calibrator is not None
    for name in TOLD - {"conformal/lac/coverage"}:
        assert again.metrics[f"test/{name}"] == pytest.approx(averaged.metrics[f"test/{name}"], abs=1e-6), name


def test_of_two_members_all_is_told_that_takes_no_features(
    averaged: Result, contrasted: Result, tmp_path: Path
) -> None:
    both = evaluate(
        {"name": "mixture", "standard": str(averaged.path), "robust": str(contrasted.path), "alpha": 0.6},
        data(),
        evaluation=EVALUATION,
        threat={"name": "l2", "eps": 0.1},
        tracking="none",
        run_dir=str(tmp_path / "both"),
        calibration="temperature_scaling",
    )
    assert not missing(both, *TOLD, *(f"temperature_scaling/{told}" for told in CALIBRATED))
    assert missing(both, *OF_FEATURES) == [*OF_FEATURES]
    told = (tmp_path / "both" / "report.txt").read_text()
    assert "Without class centroids: the model's head is not known" in told
