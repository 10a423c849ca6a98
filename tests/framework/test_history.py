import json
import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.history import History
from small_runs import small_fit


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
        history.append({"loss": 0.5}, 1)
        history.append({"loss": 0.5}, 2)
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.text


def test_a_run_that_is_not_tracked_keeps_its_curves(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", tracking={"name": "none", "every": 2})
    curves = History(tmp_path / "run" / "curves.jsonl").read()
    assert list(curves["train/loss"]) == [2, 4, 6, 8, 10, 12]
    assert list(curves["val/accuracy"]) == [4, 8, 12]
