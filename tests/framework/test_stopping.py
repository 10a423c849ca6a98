"""A run that is asked to stop does so after a step, with a checkpoint, on all ranks, and goes on as if it had not."""

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from left_behind import same
from poise import checkpoint, cli, saving
from poise.batch import Batch
from poise.distributed import Ranks
from poise.recipe import Recipe
from poise.run_directory import RunDirectory
from poise.step import Step
from poise.stopping import AGAIN, Agreement, Requests, Stopped, hold_requests, leave_terminal
from ranks import Pair
from small_runs import small_fit


class Signals(Recipe):
    """Sends a signal to its own process, once armed: after a step on one rank, or at an epoch's end on all."""

    number: ClassVar[int] = signal.SIGUSR1
    at_step: ClassVar[int | None] = None
    at_epoch: ClassVar[int | None] = None
    rank: ClassVar[int] = 0

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step + 1 == Signals.at_step and step.ranks.rank == Signals.rank:
            os.kill(os.getpid(), Signals.number)

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        if step.epoch == Signals.at_epoch:
            os.kill(os.getpid(), Signals.number)


Signals.__module__ = "__main__"  # one name for the config, whichever process wrote it


def asked(run_dir: str, options: Mapping[str, Any] = {}, **when: int) -> tuple[int, str, int]:
    """A run that is asked to stop: its exit code, what it said, and the step it came to."""
    for name, value in when.items():
        setattr(Signals, name, value)
    try:
        with pytest.raises(Stopped) as stopped:
            small_fit(run_dir, [Signals()], **options)
    finally:
        Signals.at_step = Signals.at_epoch = None
        Signals.number, Signals.rank = signal.SIGUSR1, 0
    kept = checkpoint.newest(Path(run_dir) / "checkpoints")
    return stopped.value.code, str(stopped.value), int(kept.facts["step"]) if kept else 0


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "Interrupted: "),
        (signal.SIGTERM, 143, "Stopped by SIGTERM: "),
        (signal.SIGHUP, 129, "Stopped by SIGHUP: "),
        (signal.SIGUSR1, AGAIN, "Stopped by SIGUSR1: "),
    ],
)
def test_a_run_stops_after_the_step_with_a_checkpoint(tmp_path: Path, number: int, code: int, said: str) -> None:
    run_dir = tmp_path / "paused"
    before = signal.getsignal(number)
    way_out = f"{said}the same command with run_dir={run_dir} goes on from step 6."
    assert asked(str(run_dir), number=number, at_step=6) == (code, way_out, 6)
    assert signal.getsignal(number) == before
    small_fit(run_dir, [Signals()])
    small_fit(tmp_path / "whole", [Signals()])
    assert same(tmp_path / "whole", run_dir)


@pytest.mark.parametrize("when", [{"at_step": 4}, {"at_step": 8}, {"at_epoch": 1}, {"at_epoch": 2}])
def test_an_epoch_that_is_over_is_validated_before_the_run_stops(tmp_path: Path, when: dict[str, int]) -> None:
    code, _, step = asked(str(tmp_path / "paused"), **when)
    assert (code, step) == (AGAIN, when.get("at_step", 4 * (when.get("at_epoch", 0) + 1)))
    newest = checkpoint.newest(tmp_path / "paused" / "checkpoints")
    assert newest is not None
    assert newest.facts["score"] is not None
    small_fit(tmp_path / "paused", [Signals()])
    small_fit(tmp_path / "whole", [Signals()])
    assert same(tmp_path / "whole", tmp_path / "paused")


def test_the_last_of_max_steps_is_validated_before_the_run_stops(tmp_path: Path) -> None:
    options = {"trainer": {"max_steps": 6}}
    assert asked(str(tmp_path / "paused"), options, at_step=6)[::2] == (AGAIN, 6)
    assert small_fit(tmp_path / "paused", [Signals()], **options).metrics["val/accuracy"] >= 0


def test_ranks_stop_after_the_same_step_whichever_was_asked(pair: Pair, tmp_path: Path) -> None:
    options = {"trainer": {"devices": 2, "block": 8}, "strategy": "ddp"}
    answers = pair.run(asked, str(tmp_path / "paused"), options, at_step=2, rank=1)
    assert answers[0] == answers[1]
    code, _, step = answers[0]
    assert code == AGAIN
    assert 2 <= step <= 12
    pair.run(fitted, str(tmp_path / "paused"), options)
    pair.run(fitted, str(tmp_path / "whole"), options)
    assert same(tmp_path / "whole", tmp_path / "paused")


def fitted(run_dir: str, options: Mapping[str, Any]) -> bool:
    small_fit(run_dir, [Signals()], **options)
    return RunDirectory(Path(run_dir)).finished


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Twice(Recipe):
        def on_step_end(self, batch: Batch, step: Step) -> None:
            if step.global_step == 5:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("not reached")

    with pytest.raises(Stopped, match=r"^Interrupted: .* goes on from step 4\.$"):
        small_fit(tmp_path, [Twice()])
    assert saving.last_step(tmp_path / "checkpoints") == 4
    assert capfd.readouterr().err.count("Ctrl-C once more ends at once") == 1


def test_a_job_that_never_gets_on_fails_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise Stopped(signal.SIGUSR1)

    monkeypatch.setattr("poise.train.evaluate", interrupted)
    for restarts in (0, 1, 2):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        with pytest.raises(Stopped):
            small_fit(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    with pytest.raises(RuntimeError, match=r"without having got on: give the run more time \(slurm\.time\)"):
        small_fit(tmp_path)


def test_outside_of_training_a_request_is_heard_at_once() -> None:
    with Requests(told=False), pytest.raises(Stopped) as stopped:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_stays_so(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Requests(told=False):
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_request_that_is_held_waits_for_the_training_and_is_held_again_after_the_run() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        hold_requests()
        signal.raise_signal(signal.SIGUSR1)
        with Requests(told=False) as requests:
            assert requests.asked == 0
            with pytest.raises(Stopped), requests.patiently():
                assert requests.asked == signal.SIGUSR1
        signal.raise_signal(signal.SIGUSR1)
        assert signal.sigtimedwait([signal.SIGUSR1], 0) is not None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_the_command_holds_requests_from_its_start_where_the_process_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    monkeypatch.setattr("sys.argv", ["poise", "train", "--print-config"])
    try:
        assert cli.main(["train", "--print-config"]) == 0
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
        assert cli.main() == 0
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_nothing_is_said_to_a_terminal_that_is_gone() -> None:
    other, terminal = os.openpty()
    before = os.dup(2)
    try:
        os.dup2(terminal, 2)
        leave_terminal()
        os.write(2, b"read")
        assert os.read(other, 4) == b"read"
        os.close(other)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(2, b"lost")
        leave_terminal()
        os.write(2, b"unread")
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(terminal)


def test_a_thread_trains_without_signals(tmp_path: Path) -> None:
    thread = threading.Thread(target=small_fit, args=(tmp_path,))
    thread.start()
    thread.join()
    assert RunDirectory(tmp_path).finished


def test_ranks_that_go_on_late_in_a_run_ask_each_other_as_often_as_at_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Two(Ranks):
        size = 2

    now, met = 0.0, []
    monkeypatch.setattr("poise.stopping.time.monotonic", lambda: now)
    agreement = Agreement(Requests(told=False))
    monkeypatch.setattr(Two, "max", lambda self, value: met.append(step) or value)
    for step in range(5000, 5012):
        now += 1.0  # a second a step, of which two may pass
        agreement.after(step, Two())
    assert met == [5000, 5001, 5003, 5005, 5007, 5009, 5011]
