"""A finished run evaluated again, and a model that poise never trained."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from poise import Predictor, Result, UserError, evaluate
from poise.cli import main
from small_runs import network, rows, small_fit, splits

SETTINGS = {"tracking": "none", "evaluation": "clean", "trainer": {"progress": False}}
MODULE = """
from torch import nn
def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run, whose model is somebody's own object."""
    return small_fit(tmp_path_factory.mktemp("runs") / "mine", trainer={"max_epochs": 1})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module that makes a model, its weights, and data of its kind."""
    (tmp_path / "my_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.save(_linear().state_dict(), "weights.pt")
    test, held_out = rows(24, 3), rows(24, 2)
    np.savez(
        "data.npz",
        x_test=test.x.numpy(),
        y_test=test.label.numpy(),
        x_calibration=held_out.x.numpy(),
        y_calibration=held_out.label.numpy(),
    )
    return tmp_path


def _linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def test_a_run_evaluated_again_has_the_same_numbers(run: Result, tmp_path: Path) -> None:
    again = evaluate(network(), splits(), run=run.path, run_dir=str(tmp_path / "again"), **SETTINGS)
    shipped = json.loads((run.path / "predictor/predictor.json").read_text())["calibrator"]["name"]
    for name in ("accuracy", "nll", "brier", "ece", "worst_group_accuracy"):
        for column in ("test", f"test/{shipped}"):
            assert again.metrics[f"{column}/{name}"] == pytest.approx(run.metrics[f"{column}/{name}"], abs=1e-9)
    assert {name.split("/")[1] for name in again.metrics if "calib" in name or "scaling" in name} == {shipped}
    assert not (again.path / "predictor").exists()
    assert "The calibrator is the one that the run shipped." in (again.path / "report.txt").read_text()


def test_calibrators_named_anew_are_fitted_and_shipped(run: Result, tmp_path: Path) -> None:
    again = evaluate(
        network(),
        splits(),
        run=run.path,
        run_dir=str(tmp_path / "again"),
        calibration={"name": "temperature_scaling", "temperature_scaling": {"highest": 1.5}},
        **SETTINGS,
    )
    predictor = Predictor.load(again.path, model=network())
    assert float(predictor.calibrator.temperature) <= 1.5
    test = splits().test
    nll = -predictor(test.x).double().log().gather(1, test.label[:, None]).mean()
    assert again.metrics["test/temperature_scaling/nll"] == pytest.approx(float(nll), rel=1e-5)


def test_a_run_looks_at_other_data(run: Result, tmp_path: Path) -> None:
    other = splits(train=rows(0, 0), val=rows(0, 0), calibration=rows(0, 0), test=rows(12, 9))
    found = evaluate(network(), other, run=run.path, run_dir=str(tmp_path / "other"), **SETTINGS)
    own = evaluate(network(), splits(), run=run.path, run_dir=str(tmp_path / "own"), **SETTINGS)
    assert found.metrics["test/nll"] != own.metrics["test/nll"]


def test_anybodys_model_is_evaluated_and_its_predictor_shipped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = "data=npz data.path=data.npz model=my_models:make model.checkpoint=weights.pt threat.eps=0.05"
    assert main(["evaluate", *data.split(), "tracking=none", "run_dir=out", "evaluation.adversarial.steps=2"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("Evaluating my_models:make on npz: clean, adversarial\n")
    assert "trust=True" in printed.out
    assert "Attacks: linf, eps = 0.05." in printed.out
    predictor = Predictor.load("out", trust=True)
    metrics = json.loads(Path("out/report.json").read_text())
    test = rows(24, 3)
    with torch.no_grad():
        right = (_linear()(test.x).argmax(1) == test.label).double().mean()
    assert metrics["test/accuracy"] == pytest.approx(float(right))
    assert metrics["test/robust_accuracy/pgd-2"] <= metrics["test/accuracy"]
    assert torch.equal(predictor(test.x).argmax(1), _linear()(test.x).argmax(1))


def test_a_model_given_as_an_object_has_a_directory_among_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = _linear().train()
    found = evaluate(model, splits(), calibration="none", **SETTINGS)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert found.path.parent == Path("runs")
    assert found.path.name.endswith("-evaluate-object-Sequential")
    assert 0 <= found.metrics["test/accuracy"] <= 1
    assert not any("scaling" in name for name in found.metrics)
    predictor = Predictor.load(found.path, model=_linear())
    assert torch.allclose(predictor(rows(4, 0).x), _linear()(rows(4, 0).x).softmax(1))


def test_a_model_that_knows_the_calibration_split_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 1, 8, 8)
    known = _labelled(x[:200], _linear())
    known.label[:4] = (known.label[:4] + 1) % 3  # temperatures stay as they are where no row is wrong
    data = splits(calibration=known, test=_labelled(x[200:], None))
    with caplog.at_level(logging.WARNING, "poise"):
        found = evaluate(_linear(), data, run_dir=str(tmp_path / "out"), **SETTINGS)
    assert "the model fits the calibration split better than test" in caplog.text
    for file in ("report.txt", "report.html"):
        told = " ".join((found.path / file).read_text().split())
        assert "Warning: the model fits the calibration split better than test" in told
        assert "does harm on test" in told


def test_no_calibration_examples_leave_a_model_as_it_is(tmp_path: Path) -> None:
    data = splits(train=rows(0, 0), val=rows(0, 0), calibration=rows(0, 0))
    found = evaluate(_linear(), data, run_dir=str(tmp_path / "out"), **SETTINGS)
    assert "There is no calibrator" in (found.path / "report.txt").read_text()
    with pytest.raises(UserError, match="no calibration examples to fit temperature_scaling to"):
        evaluate(_linear(), data, calibration="temperature_scaling", run_dir=str(tmp_path / "two"), **SETTINGS)


def test_the_settings_of_a_foreign_model_tell_of_no_training(tmp_path: Path) -> None:
    found = evaluate(_linear(), splits(), run_dir=str(tmp_path / "out"), **SETTINGS)
    page = (found.path / "report.html").read_text()
    assert "max_epochs" not in page
    assert "object:Sequential" in page


def _labelled(x: torch.Tensor, model: nn.Module | None) -> Any:
    """Inputs with the model's own labels, as if it had learnt them by heart; or with labels of no sense."""
    label = torch.arange(len(x)) % 3 if model is None else model(x).argmax(1)
    return type(rows(1, 0))(x, label)


def test_outputs_that_are_probabilities_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "poise"):
        evaluate(nn.Sequential(_linear(), nn.Softmax(1)), splits(), run_dir=str(tmp_path / "out"), **SETTINGS)
    assert "the model gives probabilities, not logits" in caplog.text


def test_a_model_of_half_precision_is_measured_in_single(tmp_path: Path) -> None:
    half = evaluate(_linear().half(), splits(), calibration="none", run_dir=str(tmp_path / "half"), **SETTINGS)
    whole = evaluate(_linear(), splits(), calibration="none", run_dir=str(tmp_path / "whole"), **SETTINGS)
    assert half.metrics["test/nll"] == pytest.approx(whole.metrics["test/nll"], abs=1e-3)


def test_data_without_names_have_the_predictors_classes(run: Result, tmp_path: Path) -> None:
    two = rows(24, 3)
    two = type(two)(two.x[two.label < 2], two.label[two.label < 2])
    none = {name: two.none() for name in ("train", "val", "calibration")}
    data = type(splits())(**none, test=two, num_classes=2)
    found = evaluate(network(), data, run=run.path, run_dir=str(tmp_path / "out"), **SETTINGS)
    assert {"test/accuracy/class/a", "test/accuracy/class/b"} <= found.metrics.keys()


def test_the_same_evaluation_again_shows_its_report(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ["model=my_models:make", "model.checkpoint=weights.pt", "data=npz", "data.path=data.npz"]
    words = ["evaluate", *model, "evaluation=clean", "tracking=none", "run_dir=out"]
    monkeypatch.setattr("poise.evaluating.evaluate_subject", lambda *_: 1 / 0)
    assert main(words) == 1  # what an evaluation leaves that did not come to its end is not in the way
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    assert main(words) == 0
    capsys.readouterr()
    written = (Path("out/report.json")).stat().st_mtime_ns
    assert main(words) == 0
    assert "out is finished; its report:\ntest" in capsys.readouterr().out
    assert Path("out/report.json").stat().st_mtime_ns == written
    assert main([*words, "evaluation.clean.bins=10"]) == 2
    assert "run_dir=out holds something already" in capsys.readouterr().err


def test_an_interrupted_evaluation_says_how_to_go_on(tmp_path: Path) -> None:
    asks = {**SETTINGS, "evaluation": "faulty:AsksInEvaluation", "calibration": "none"}
    with pytest.raises(KeyboardInterrupt) as caught:
        evaluate(_linear(), splits(), run_dir=str(tmp_path / "out"), **asks)
    assert str(caught.value) == f"Interrupted: the same command with run_dir={tmp_path / 'out'} begins again."


def test_what_an_evaluator_cannot_look_at_is_refused_first(tmp_path: Path) -> None:
    flat = {name: type(part)(part.x.flatten(1), part.label) for name, part in splits().main.items()}
    data = type(splits())(**flat, num_classes=3, kind="tabular")
    with pytest.raises(UserError, match="evaluation=certify_dual: inputs of shape .* have no halves"):
        evaluate(nn.Linear(64, 3), data, run_dir=str(tmp_path / "out"), **{**SETTINGS, "evaluation": "certify_dual"})
    assert not (tmp_path / "out").exists()


def test_groups_of_training_are_refused_in_python_too() -> None:
    with pytest.raises(UserError, match="recipe: an evaluation trains nothing"):
        evaluate(_linear(), splits(), recipe="trades")
    with pytest.raises(UserError, match="trainer.max_epochs: an evaluation trains nothing"):
        evaluate(_linear(), splits(), trainer={"max_epochs": 2, "progress": False})


def test_data_of_another_kind_are_refused(run: Result, tmp_path: Path) -> None:
    def refused(data: object, said: str) -> None:
        with pytest.raises(UserError, match=said):
            evaluate(network(), data, run=run.path, run_dir=str(tmp_path / "out"), **SETTINGS)
        assert not (tmp_path / "out").exists()

    four = {"num_classes": 4, "class_names": ("a", "b", "c", "d")}
    kinds = {name: getattr(splits(), name) for name in ("train", "val", "calibration", "test")}
    refused(type(splits())(**kinds, **four), "number of classes of 4, the run's predictor 3")
    refused(type(splits())(**kinds, num_classes=3, class_names=("b", "a", "c")), "classes are in another order")
    refused(type(splits())(**kinds, num_classes=3, valid_range=(-1.0, 1.0)), r"valid range of \(-1.0, 1.0\)")
    refused("digits", "number of classes of 10, the run's predictor 3")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run=nowhere", "there is no run nowhere"),
        ("run=.", "holds no predictor"),
        (
            "model=my_models:make data=npz data.path=data.npz model.checkpoint=weights.pt run_dir=.",
            "run_dir=. holds something already",
        ),
        ("model=my_models:make data=npz data.path=data.npz", "draws weights at random: give model.checkpoint="),
        ("model=my_models:make data=digits model.checkpoint=weights.pt", "weights.pt"),
        ("model=my_models:make data=npz data.path=data.npz model.checkpoint=w.pt", "w.pt"),
        ("model=my_models:mak data=digits", "mak"),
        (
            "model=my_models:make data=npz data.path=data.npz model.checkpoint=weights.pt trainer.accelerator=cuda",
            "no GPU on this machine",
        ),
    ],
)
def test_what_cannot_be_evaluated_ends_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    data = ["data=npz", "data.path=data.npz"] if words == "run=." else []
    before = sorted(here.rglob("*"))
    assert main(["evaluate", *words.split(), *data, "tracking=none"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Evaluating ")]
    assert len(lines) == 1
    assert said in lines[0]
    kept = sorted(path for path in here.rglob("*") if "__pycache__" not in path.parts and "runs" not in path.parts)
    assert kept == before
