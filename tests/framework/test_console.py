"""What a person sees of a training: one bar for the whole run, and a line an epoch."""

import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.progress import RunBar, lasting
from small_runs import small_fit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (3600, "1 h"), (100_000, "1 d 3 h")],
)
def test_durations_as_people_say_them(seconds: float, said: str) -> None:
    assert lasting(seconds) == said


@given(st.integers(0, 10**7))
def test_a_duration_is_off_by_less_than_its_smaller_unit(seconds: int) -> None:
    sizes = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+) (\w+)", lasting(seconds))
    said = sum(int(number) * sizes[unit] for number, unit in parts)
    assert 0 <= seconds - said < max(sizes[parts[0][1]] / 20, 1)


def test_a_terminal_shows_where_the_run_is_and_how_long_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("poise.progress.OFTEN", 0.0)
    small_fit(tmp_path / "run", trainer={"max_epochs": 2, "progress": True})
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(r"epoch 2/2 .*\d+ s left  loss \d", shown)
    assert re.findall(r"epoch (\d)/2  train/loss=", shown) == ["1", "2"]


def test_a_file_gets_one_line_an_epoch_and_no_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "run", trainer={"max_epochs": 2, "progress": True})
    said = capsys.readouterr().err
    assert re.findall(r"^epoch (\d)/2  train/loss=", said, re.MULTILINE) == ["1", "2"]
    assert "\x1b" not in said
    assert "left" not in said


def test_a_resumed_run_does_not_count_what_was_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = RunBar()
    bar.start(done=900, total=1000)
    bar._began -= 10.0  # seconds ago
    bar.move(950, "epoch 10/10", "")
    assert bar._bar is not None
    assert bar._bar.tasks[0].fields["told"].strip() == "10 s left"
    bar.stop()
    bar.stop()
