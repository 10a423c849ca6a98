"""A run's curves: where what recipes log stands, on any number of ranks, and after a resume."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from poise.batch import Batch, Outcome
from poise.history import History
from poise.recipe import Recipe
from poise.step import Step
from ranks import Pair
from small_runs import CLASSES, small_fit

EVERY = 3  # steps, of which an epoch has four
SETTINGS = {"block": 4, "precision": "64-true"}


class Stopped(Exception):
    """What a test stops a run with."""


class Speaks(Recipe):
    """Says something in every hook that may be called when nothing is logged."""

    stops_at: ClassVar[int | None] = None

    def on_epoch_start(self, step: Step) -> None:
        step.log("begun", step.epoch)

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        step.log("share", batch.x.mean())
        return outcome.loss.mean() * 0

    def on_step_end(self, batch: Batch, step: Step) -> None:
        step.log("done", step.global_step + 1)
        if step.global_step + 1 == Speaks.stops_at:
            raise Stopped

    def on_epoch_trained(self, step: Step) -> None:
        step.log("trained", step.epoch + 0.5 + step.ranks.rank)
        if step.epoch == 0:
            step.log("once", torch.tensor([1.0, 2.0]))

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        step.log("ended", metrics["val/accuracy"])


Speaks.__module__ = "__main__"  # one name for the config, whichever process wrote it


class Alone(Recipe):
    """Says something on the first rank alone."""

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        if step.ranks.rank == 0:
            step.log("alone", 7.0)


def curves(run_dir: Path | str, recipe: type[Recipe] = Speaks, **trainer: Any) -> dict[str, dict[int, float]]:
    linear = nn.Linear(64, CLASSES)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    model = nn.Sequential(nn.Flatten(), linear)
    shorter = {"tracking": {"name": "none", "every": EVERY}, "calibration": "none", "evaluation": "none"}
    small_fit(run_dir, [recipe()], trainer={**SETTINGS, **trainer}, model=model, **shorter)
    return History(Path(run_dir) / "curves.jsonl").read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[int, float]]]:
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, curves(folder)


def test_what_is_logged_at_an_epochs_end_stands_there_and_nowhere_else(
    whole: tuple[Path, dict[str, dict[int, float]]],
) -> None:
    folder, found = whole
    assert found["train/trained"] == {4: 0.5, 8: 1.5, 12: 2.5}
    assert found["train/once"] == {4: 1.5}
    assert found["train/ended"] == found["val/accuracy"]
    assert found["epoch"] == {3: 1, 4: 1, 6: 2, 8: 2, 9: 3, 12: 3}
    assert list(found["train/loss"]) == [3, 4, 6, 8, 9, 12]
    assert found["train/begun"] == {3: 0, 6: 1, 9: 2}
    assert found["train/done"] == {3: 2, 4: 4, 6: 5, 8: 8, 12: 12}  # a step later, but for an epoch's last
    lines = re.findall(r"epoch (\d)/3 .* train/trained=(\S+)  .*train/ended=(\S+)", (folder / "log.txt").read_text())
    assert [int(epoch) for epoch, _, _ in lines] == [1, 2, 3]
    assert [float(trained) for _, trained, _ in lines] == list(found["train/trained"].values())
    assert [float(ended) for _, _, ended in lines] == pytest.approx(list(found["val/accuracy"].values()), abs=1e-3)


def test_micro_batches_of_a_step_are_one_point_which_is_their_mean(
    whole: tuple[Path, dict[str, dict[int, float]]], tmp_path: Path
) -> None:
    _, expected = whole
    found = curves(tmp_path / "run", accumulate=2)
    assert set(found) == set(expected)
    for name, curve in expected.items():
        assert found[name] == pytest.approx(curve, abs=1e-9)
    assert (tmp_path / "run" / "curves.jsonl").read_text().count("\n") == 6


def test_two_ranks_tell_the_mean_of_both(
    pair: Pair, whole: tuple[Path, dict[str, dict[int, float]]], tmp_path: Path
) -> None:
    _, expected = whole
    first, second = pair.run(curves, str(tmp_path / "run"), devices=2)
    assert first == second
    assert first.pop("train/trained") == {4: 1.0, 8: 2.0, 12: 3.0}
    for name, curve in first.items():
        assert curve == pytest.approx(expected[name], abs=1e-9)
    assert set(expected) == {*first, "train/trained"}


def of_one_alone(run_dir: str) -> dict[str, dict[int, float]]:
    return curves(run_dir, Alone, devices=2, max_epochs=2)


def test_what_one_rank_alone_logs_is_its_own_and_waited_for_by_none(pair: Pair, tmp_path: Path) -> None:
    first, _ = pair.run(of_one_alone, str(tmp_path / "run"))
    assert first["train/alone"] == {4: 7.0, 8: 7.0}


@pytest.mark.parametrize("stop", [5, 8, 10])
def test_a_resumed_run_has_the_curves_of_a_whole_one(
    whole: tuple[Path, dict[str, dict[int, float]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    monkeypatch.setattr(Speaks, "stops_at", stop)
    with pytest.raises(Stopped):
        curves(tmp_path / "run", checkpoint_every=1)
    monkeypatch.setattr(Speaks, "stops_at", None)
    curves(tmp_path / "run", checkpoint_every=1)
    lines = [(folder / "curves.jsonl").read_text() for folder in (tmp_path / "run", whole[0])]
    assert lines[0] == lines[1]
