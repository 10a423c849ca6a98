"""Runs that are killed, servers that go away, runs that start together: nothing lost, nothing twice."""

import shlex
import subprocess
import sys
from pathlib import Path

from tracked_runs import (
    command,
    environment,
    free_port,
    is_whole,
    kill,
    rows,
    server,
    start,
    state,
    statuses,
    train,
    wait_for,
    worker,
)


def test_a_training_that_was_killed_goes_on_as_one_run_with_each_step_once(tmp_path: Path) -> None:
    settings = {"trainer__max_epochs": 40, "trainer__checkpoint_every": 3}
    process = start(command("run", **settings), tmp_path)
    wait_for(lambda: state(tmp_path / "run").last.get("train/loss", 0) >= 20 or process.poll() is not None)
    kill(process)
    assert statuses(tmp_path / "mlflow.db") == ["RUNNING"]
    train(tmp_path, "run", **settings)
    assert is_whole(tmp_path / "mlflow.db", 320)


def test_a_run_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """Just as it starts, while it makes the database, and while it sends; each time it goes on a few steps back."""
    folder, last = tmp_path / "run" / "tracking", 1
    for seen in (folder, tmp_path / "mlflow.db", folder / "state.json", tmp_path / "mlruns"):
        process = worker(tmp_path, max(1, last - 4), last + 20_000, pause=0.002)
        wait_for(seen.exists)
        kill(process)
        last = max([1, *_spooled(folder)])
    assert worker(tmp_path, max(1, last - 4), last + 20).wait(60) == 0
    assert is_whole(tmp_path / "mlflow.db", last + 20)


def _spooled(folder: Path) -> list[int]:
    """The steps that a spool's whole lines hold, and those that are sent."""
    text = (folder / "spool.jsonl").read_text() if (folder / "spool.jsonl").exists() else ""
    waiting = [int(line.split('"step":')[1].split(",")[0]) for line in text.split("\n")[:-1] if '"step":' in line]
    return [*waiting, *state(folder.parent).last.values()]


def test_six_runs_started_together_on_a_fresh_database_all_succeed(tmp_path: Path) -> None:
    processes = [worker(tmp_path, 1, 5, f"seed={i}", name=f"run{i}") for i in range(6)]
    assert [process.wait(120) for process in processes] == [0] * 6
    assert [(tmp_path / f"run{i}.err").read_text() for i in range(6)] == [""] * 6
    assert statuses(tmp_path / "mlflow.db") == ["FINISHED"] * 6
    assert len(rows(tmp_path / "mlflow.db", "select * from experiments where name = 'poise'")) == 1
    assert len(rows(tmp_path / "mlflow.db", "select * from metrics where key = 'train/loss'")) == 30


def test_a_server_that_goes_away_and_comes_back_gets_everything(tmp_path: Path) -> None:
    port, run_dir = free_port(), tmp_path / "run"
    with server(tmp_path, port):
        process = worker(tmp_path, 1, 1000, f"tracking.uri=http://127.0.0.1:{port}", pause=0.02)
        wait_for(lambda: state(run_dir).last.get("train/loss", 0) >= 1 or process.poll() is not None)
    wait_for(lambda: "is tried again" in (tmp_path / "run.err").read_text() or process.poll() is not None)
    assert process.poll() is None
    assert state(run_dir).last["train/loss"] < 1000
    with server(tmp_path, port):
        assert process.wait(120) == 0
    assert is_whole(tmp_path / "server.db", 1000)
    said = (tmp_path / "run.err").read_text()
    assert said.count("fails and is tried again") == said.count("works again") == 1
    (stored,) = (tmp_path / "files").rglob("report.json")
    assert stored.read_text() == (run_dir / "report.json").read_text()


def test_two_ranks_are_one_run_that_the_first_writes(tmp_path: Path) -> None:
    said = train(tmp_path, "run", trainer__devices=2, trainer__max_epochs=1).splitlines()
    assert is_whole(tmp_path / "mlflow.db", 8)
    see, model = said[-2], said[-1]
    assert see.startswith("See: ")
    assert see.endswith("poise ui")
    words = shlex.split(model.removeprefix("Model:"))
    shown = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert "Predictor" in shown.stdout


def test_tracking_none_writes_nothing_and_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from poise.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or any(name.partition('.')[0] in ('mlflow', 'sqlalchemy') for name in sys.modules))"
    )
    arguments = command("run", tracking="none", trainer__max_epochs=1)[3:]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (tmp_path / "run" / "tracking").exists()
