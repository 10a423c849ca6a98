"""Memory that is too small: one line that names what to set, in the order in which it changes the run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poise import evaluate
from poise.batch import Batch, Outcome
from poise.card import Card
from poise.config.schema import TrainerConfig
from poise.memory import OutOfMemory, memory_told, smaller_evaluation, smaller_training
from poise.models.classifier import Classifier
from poise.predicting import predict
from poise.predictor import Predictor
from poise.recipe import Recipe
from poise.step import Step
from small_runs import network, small_fit, splits

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.21 GiB is "
    "free. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
)


class Large(Recipe):
    """Takes more memory than there is at a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def objective(self, batch: Batch, step: Step) -> Outcome:
        if step.global_step == self.at and step.progress > 0:
            raise torch.OutOfMemoryError(CUDA)
        clean = step.forward(batch.x, batch)
        return Outcome(step.loss(clean.logits, batch), clean=clean)


EVALUATOR = f"""
import torch
from poise.evaluator import Evaluator, Findings

class Large(Evaluator):
    def evaluate(self, subject):
        if subject.batch_size > 100:
            raise torch.OutOfMemoryError({CUDA!r})
        return Findings({{"test/fitted_in": float(subject.batch_size)}})
"""


def test_training_names_the_knobs_from_the_one_that_changes_least() -> None:
    said = smaller_training(TrainerConfig(batch_size=128, devices=2))
    knobs = [
        "trainer.accumulate=2 (",
        "trainer.precision=bf16-mixed",
        "trainer.batch_size",
        "trainer.eval_batch_size=128",
    ]
    places = [said.index(knob) for knob in knobs]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("trainer", "parts"),
    [
        (TrainerConfig(batch_size=96, block=8, accumulate=4), 6),
        (TrainerConfig(batch_size=96, block=8, devices=4), 3),
        (TrainerConfig(batch_size=16, block=16), None),
    ],
)
def test_only_parts_that_fit_the_batch_are_named(trainer: TrainerConfig, parts: int | None) -> None:
    said = smaller_training(trainer)
    assert (f"trainer.accumulate={parts}" if parts else "trainer.batch_size") in said
    assert ("trainer.accumulate" in said) == (parts is not None)


def test_what_is_set_already_is_not_named() -> None:
    said = smaller_training(TrainerConfig(precision="bf16-mixed", eval_batch_size=1))
    assert "precision" not in said
    assert "eval_batch_size" not in said
    assert smaller_evaluation(TrainerConfig(eval_batch_size=1)) == "trainer.eval_batch_size=1"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(CUDA),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …"),
    ],
)
def test_memory_is_told_from_other_errors(error: RuntimeError) -> None:
    with pytest.raises(OutOfMemory, match="memory is too small: a way out") as caught, memory_told(lambda: "a way out"):
        raise error
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="shapes differ"), memory_told(lambda: "a way out"):
        raise RuntimeError("shapes differ")


def test_a_training_says_what_to_set_and_what_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"set trainer\.accumulate=.*; no checkpoint was written yet \(CUDA out of"):
        small_fit(tmp_path / "first", [Large(at=1)], trainer={"block": 4})
    with pytest.raises(OutOfMemory, match=r"last checkpoint: .*step-00000004, for the config as it was \(CUDA out of"):
        small_fit(tmp_path / "later", [Large(at=6)], trainer={"block": 4})
    assert "memory is too small" in (tmp_path / "later" / "log.txt").read_text()


def test_an_evaluation_goes_on_with_fewer_examples_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "too_large.py").write_text(EVALUATOR)
    monkeypatch.syspath_prepend(tmp_path)
    run, evaluation = tmp_path / "run", "too_large:Large"
    with pytest.raises(OutOfMemory, match=r"the training is done, .* trainer\.eval_batch_size=128 goes on from there"):
        small_fit(run, evaluation=evaluation, trainer={"max_epochs": 1})
    result = small_fit(run, evaluation=evaluation, trainer={"max_epochs": 1, "eval_batch_size": 64})
    assert result.metrics["test/fitted_in"] == 64
    assert Predictor.load(run, model=network()).class_names == ("a", "b", "c")


def test_an_evaluation_of_a_model_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "too_large.py").write_text(EVALUATOR)
    monkeypatch.syspath_prepend(tmp_path)
    asked = {"evaluation": "too_large:Large", "calibration": "none", "tracking": "none"}
    with pytest.raises(OutOfMemory, match=r"too small: set trainer\.eval_batch_size=128 \(CUDA out of memory"):
        evaluate(network(), splits(), run_dir=str(tmp_path / "run"), **asked)


class Hungry(nn.Module):
    """More than the memory holds."""

    def forward(self, x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError(CUDA)


def test_predictions_say_where_there_is_more_memory() -> None:
    card = Card(input_shape=(1, 8, 8), class_names=("a", "b"), valid_range=(0.0, 1.0), model=None)
    predictor = Predictor(Classifier(Hungry(), nn.Identity()), card)
    with pytest.raises(OutOfMemory, match="CUDA_VISIBLE_DEVICES= before the command has it predict on the CPU"):
        predict(predictor, np.zeros((2, 1, 8, 8), dtype=np.float32), "input=x.npy")
