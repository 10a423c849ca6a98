"""A rank that is killed or stopped in mid-training: the others end, a line says who, and nothing is left over."""

import os
import signal
from pathlib import Path

from poise.launching import MEMORY
from processes import Command, Ended, has_gone_on, step_of

SETTINGS = {
    "model": "mlp",
    "evaluation": "none",
    "calibration": "none",
    "tracking": "none",
    "trainer.devices": "2",
    "trainer.max_epochs": "1000",
    "trainer.checkpoint_every": "3",
    "trainer.progress": "false",
    "trainer.timeout": "10",
    "run_dir": "run",
}
WORDS = [f"{name}={value}" for name, value in SETTINGS.items()]
BOUND = 60.0  # seconds in which ranks notice and all have ended


def told(ended: Ended) -> list[str]:
    """What was said but for the epochs."""
    return [line for line in ended.said if not line.startswith(("epoch ", "Training ", "Going on "))]


def test_two_ranks_of_poise_lose_one_stop_for_one_and_are_interrupted(tmp_path: Path) -> None:
    """The same run throughout, each time from where it was."""
    run = tmp_path / "run"
    way_on = "the same command with run_dir=run goes on from step "

    first = Command(["-m", "poise", "train", *WORDS], tmp_path / "first.log")
    first.until(lambda: has_gone_on(run, 3))
    os.kill(first.rank(1), signal.SIGKILL)
    ended = first.ended(BOUND)
    step = step_of(run)
    assert ended.code == 137
    assert told(ended)[0].startswith(f"rank 1 was ended by SIGKILL (exit code 137), {MEMORY}")
    assert told(ended)[-1].startswith("The run failed: ")
    assert told(ended)[1:] == [
        f"The run failed: see run/log.txt; the same command with run_dir=run goes on from step {step}."
    ]

    second = Command(["-m", "poise", "train", *WORDS], tmp_path / "second.log")
    second.until(lambda: has_gone_on(run, step))
    os.kill(second.rank(0), signal.SIGSTOP)
    ended = second.ended(BOUND)
    assert f"Going on from step {step}" in ended.said
    step = step_of(run)
    assert ended.code == 1
    assert told(ended) == [f"The run failed: rank 0 did not answer for 10 s (trainer.timeout); {way_on}{step}."]

    third = Command(["-m", "poise", "train", *WORDS], tmp_path / "third.log")
    third.until(lambda: has_gone_on(run, step))
    third.process.send_signal(signal.SIGINT)
    ended = third.ended(BOUND)
    step = step_of(run)
    assert ended.code == 130
    asked, said = (line for line in told(ended) if line)
    assert asked == "Stopping after this step, with a checkpoint. Ctrl-C once more ends at once."
    assert said == f"Interrupted: {way_on}{step}."


def test_torchrun_ends_where_one_rank_is_killed_and_the_first_says_which(tmp_path: Path) -> None:
    command = Command(["-m", "poise.torchrun", *WORDS], tmp_path / "log")
    command.until(lambda: has_gone_on(tmp_path / "run", 3))
    os.kill(command.rank(1), signal.SIGKILL)
    ended = command.ended(BOUND)
    assert ended.code == 1
    ways = (
        f"ended without a word, {MEMORY}",
        "did not answer for 10 s (trainer.timeout)",
    )  # in a step, or at a meeting
    assert any(f"The run failed: rank 1 {way}." in ended.said for way in ways), ended.said
    assert step_of(tmp_path / "run") >= 3
