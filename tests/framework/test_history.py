import json
import logging
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.batch import Batch
from poise.history import History
from poise.recipe import Recipe
from poise.step import Step
from small_runs import small_fit


class Stopped(Exception):
    """What a test stops a run with."""


class Stops(Recipe):
    """Stops the run, once armed, at the end of a step."""

    at_step: ClassVar[int | None] = None

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step + 1 == Stops.at_step:
            raise Stopped


def test_what_is_appended_is_read_by_name_and_step(tmp_path: Path) -> None:
    history = History(tmp_path / "curves.jsonl")
    assert history.read() == {}
    history.append({"train/loss": 0.5, "epoch": 0.0}, 10)
    history.append({"val/nll": float("inf")}, 10)
    history.append({"train/loss": 0.25}, 20)
    assert history.read() == {"train/loss": {10: 0.5, 20: 0.25}, "epoch": {10: 0.0}, "val/nll": {10: float("inf")}}
    assert json.loads(history.path.read_text().splitlines()[2]) == {"step": 20, "train/loss": 0.25}


def test_a_step_that_is_done_again_is_there_once_with_its_last_value(tmp_path: Path) -> None:
    first = History(tmp_path / "curves.jsonl")
    for step in (10, 20, 30):
        first.append({"loss": 1.0 / step}, step)
    resumed = History(tmp_path / "curves.jsonl")
    for step in (20, 30, 40):
        resumed.append({"loss": 2.0 / step}, step)
    assert resumed.read() == {"loss": {10: 0.1, 20: 0.1, 30: 2 / 30, 40: 0.05}}
    assert list(resumed.read()["loss"]) == [10, 20, 30, 40]


def test_a_run_that_goes_on_leaves_out_what_it_does_again(tmp_path: Path) -> None:
    first = History(tmp_path / "curves.jsonl")
    first.go_on_from(0)
    assert not first.path.exists()
    for step in (10, 20, 30):
        first.append({"loss": 1.0 / step}, step)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole + b'{"step":40,"lo')
    for step, lines in ((30, 3), (20, 2), (0, 0)):
        history = History(first.path)
        history.go_on_from(step)
        assert history.path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:lines])
    assert [path.name for path in tmp_path.iterdir()] == ["curves.jsonl"]


@given(st.data())
def test_a_kill_at_any_byte_costs_the_line_being_written_alone(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "curves.jsonl")
        for step in (1, 2):
            history.append({"loss": 0.5}, step)
        whole = history.path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        history.path.write_bytes(whole[:cut])
        History(history.path).append({"loss": 0.125}, 3)
        kept = whole[: cut + 1].count(b"\n")  # a line without its end alone is whole
        assert History(history.path).read() == {"loss": {**dict.fromkeys(range(1, kept + 1), 0.5), 3: 0.125}}


@pytest.mark.parametrize("line", ["[]", "{}", "null", '{"step": "x"}', '{"step": 1, "loss": "x"}', "\\x00", "{"])
def test_lines_that_are_no_points_are_passed_over(line: str, tmp_path: Path) -> None:
    history = History(tmp_path / "curves.jsonl")
    history.path.write_text(f"{line}\n")
    history.append({"loss": 0.5}, 2)
    assert history.read() == {"loss": {2: 0.5}}


def test_a_disk_that_takes_no_more_costs_the_curves_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path)
    with caplog.at_level(logging.WARNING, logger="poise"):
        history.go_on_from(0)
        history.append({"loss": 0.5}, 1)
        history.append({"loss": 0.5}, 2)
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.text


def test_a_run_that_is_not_tracked_keeps_its_curves_and_a_resumed_one_those_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Any = {"recipe": Stops(), "tracking": {"name": "none", "every": 1}}
    small_fit(tmp_path / "whole", **settings)
    monkeypatch.setattr(Stops, "at_step", 7)
    with pytest.raises(Stopped):
        small_fit(tmp_path / "run", **settings)
    monkeypatch.setattr(Stops, "at_step", None)
    small_fit(tmp_path / "run", **settings)
    lines = (tmp_path / "run" / "curves.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps.count(5) == 1  # done before the stop, and again from the checkpoint of step 4
    assert lines == (tmp_path / "whole" / "curves.jsonl").read_text().splitlines()
    curves = History(tmp_path / "run" / "curves.jsonl").read()
    assert list(curves["train/loss"]) == list(range(1, 13))
    assert list(curves["val/accuracy"]) == [4, 8, 12]
