"""Ctrl-C and SIGTERM at any stage: one line, the exit code of a shell, nothing left over, and a run that goes on."""

import signal
import time
from pathlib import Path

import pytest

import faulty
from forks import Forks
from poise.saving import last_step
from processes import Command


@pytest.mark.parametrize(
    ("stage", "code", "word", "step"),
    [
        ("validation", 130, "Interrupted", 8),
        ("calibration", 143, "Stopped by SIGTERM", 12),
        ("evaluation", 130, "Interrupted", 12),
    ],
)
def test_a_run_that_is_asked_to_stop_says_in_a_line_where_it_goes_on(
    forks: Forks, tmp_path: Path, stage: str, code: int, word: str, step: int
) -> None:
    run = tmp_path / "run"
    found, said = forks.run(faulty.interrupted_in, stage, str(run))
    lines = [line for line in said.splitlines() if not line.startswith("epoch ")]
    assert found == code
    assert lines == [f"{word}: the same command with run_dir={run} goes on from step {step}."]
    assert last_step(run / "checkpoints") == step
    assert not (run / "report.json").exists()


SAID = ["Training plain on digits, small_cnn, 20 epochs", "Interrupted."]


@pytest.mark.parametrize("seconds", [0.7, 3.0])
def test_a_start_is_interrupted_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    command = Command(["-m", "poise", "train", "tracking=none"], tmp_path / "log")
    time.sleep(seconds)
    command.process.send_signal(signal.SIGINT)
    ended = command.ended(30.0)
    assert ended.code == 130
    assert ended.said in (SAID, SAID[1:], [])


def test_ranks_are_interrupted_twice_while_they_start(tmp_path: Path) -> None:
    command = Command(["-m", "poise", "train", "tracking=none", "trainer.devices=2", "run_dir=run"], tmp_path / "log")
    command.until(lambda: (tmp_path / "run" / "logs" / "rank-1.log").exists())
    command.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    command.process.send_signal(signal.SIGINT)
    ended = command.ended(30.0)
    assert ended.code == 130
    assert ended.said == [SAID[0], "Interrupted: the same command with run_dir=run begins again."]
    assert "Traceback" not in (tmp_path / "run" / "logs" / "rank-1.log").read_text()
