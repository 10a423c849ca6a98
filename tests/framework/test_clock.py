"""A clock that is set back while a run goes on, as it is on a machine that asks for the time late."""

import time
from itertools import count
from pathlib import Path

import pytest

from left_behind import same
from poise.progress import RunBar
from poise.tracking.spool import Spool
from small_runs import small_fit

DAY = 86_400


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock shows a day less."""
    began, days = time.time(), count()
    monkeypatch.setattr(time, "time", lambda: began - DAY * next(days))
    monkeypatch.setattr(time, "time_ns", lambda: int((began - DAY * next(days)) * 10**9))


def test_a_run_ends_as_on_a_clock_that_goes_on(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    small_fit(tmp_path / "whole", "trades", {"checkpoint_every": 1})
    request.getfixturevalue("back")
    small_fit(tmp_path / "run", "trades", {"checkpoint_every": 1})
    assert same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.usefixtures("back")
def test_what_is_tracked_never_goes_back_in_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for step in (1, 2, 3):
        spool.metrics({"loss": 0.5}, step)
    spool.mark("FINISHED")
    records, _ = spool.chunk()
    times = [spool.state.started, *(record["time"] for record in records)]
    assert len(times) == 5
    assert times == sorted(times)
    spool.close()
    again = Spool(tmp_path)
    assert again.now() >= times[-1]
    again.close()


@pytest.mark.usefixtures("back")
def test_a_bar_shows_the_time_that_is_left() -> None:
    bar = RunBar()
    bar.start(0, 10)
    bar.move(5, "epoch 1/2", "loss 1")
    assert bar._bar is not None
    assert "-" not in bar._bar.tasks[0].fields["told"]
    bar.stop()
