"""`poise sync`: what was left behind arrives once, and nothing is said of a run that is not true."""

import json
import shutil
from pathlib import Path

import pytest
import worker
from mlflow.tracking import MlflowClient
from tracked_runs import free_port, is_whole, kill, refusing, rows, state, statuses, steps, stored_twice, wait_for
from tracked_runs import worker as started

from poise.cli import main
from poise.run_directory import RunDirectory
from poise.tracking.server import client
from poise.tracking.spool import Spool
from poise.tracking.tracker import quiet


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty one, to copy: MLflow takes seconds to make it."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    with quiet():
        client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    shutil.copy(database, tmp_path / "mlflow.db")
    shutil.copy(database, tmp_path / "other" / "there.db")


def finished(run_dir: Path, *settings: str, last: int = 9) -> RunDirectory:
    worker.main(str(run_dir), "1", str(last), "0", *settings)
    return RunDirectory(run_dir)


def reset(run_dir: Path) -> None:
    """As if the run had been killed before anything was sent."""
    spool = Spool(run_dir / "tracking")
    spool.renew(spool.state.elsewhere(f"sqlite:///{run_dir.parent / 'mlflow.db'}"))
    spool.close()


def test_a_killed_run_is_sent_and_said_to_be_killed_until_somebody_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = started(tmp_path, 1, 20_000, pause=0.002)
    live = started(tmp_path, 1, 20_000, pause=0.002, name="live")
    try:
        wait_for(lambda: all(state(tmp_path / name).last.get("train/loss", 0) for name in ("run", "live")))
        kill(killed)
        assert statuses(tmp_path / "mlflow.db") == ["RUNNING"] * 2
        assert main(["sync", f"run_dir={tmp_path}"]) == 0
        said = capsys.readouterr()
        assert f"2 runs in {tmp_path}, 2 with something left to send" in said.err
        told = {line.split()[0]: line for line in said.out.splitlines()}
        assert " killed " in told[str(tmp_path / "run")]
        assert " in use " in told[str(tmp_path / "live")]
        assert " values, " in told[str(tmp_path / "run")]
    finally:
        kill(live)
    ((own, status, ended),) = rows(
        tmp_path / "mlflow.db", "select run_uuid, status, end_time from runs where name = 'run'"
    )
    last = max(state(tmp_path / "run").last.values())
    assert status == "KILLED"
    assert abs(ended - (tmp_path / "run" / "curves.jsonl").stat().st_mtime_ns // 10**6) < 1000
    stored = rows(
        tmp_path / "mlflow.db",
        f"select step from metrics where run_uuid = '{own}' and key = 'train/loss' order by step",
    )
    assert [step for (step,) in stored] == list(range(1, last + 1))
    assert (tmp_path / "run" / "curves.jsonl").read_text().count("\n") - last in (0, 1)
    (tmp_path / "live").rename(tmp_path.parent / f"{tmp_path.name}-live")
    assert main(["sync", f"run_dir={tmp_path}"]) == 0
    assert f"All is sent of 1 run in {tmp_path}" in capsys.readouterr().err
    assert stored_twice(tmp_path / "mlflow.db") == []


def test_what_goes_on_after_it_was_sent_runs_again(tmp_path: Path) -> None:
    spool = finished(tmp_path / "run").path / "tracking"
    (tmp_path / "run" / "report.json").unlink()
    left = Spool(spool)
    left.mark("RUNNING")
    left.close()
    assert main(["sync", "run_dir=run"]) == 0
    assert statuses(tmp_path / "mlflow.db") == ["KILLED"]
    finished(tmp_path / "run", last=12)
    assert is_whole(tmp_path / "mlflow.db", 12)


def test_elsewhere_a_run_arrives_whole_with_its_parameters_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(tmp_path / "run", "seed=7")
    commit = (run.path / "tracking" / "artifacts" / "environment.json").read_text()
    uri = f"sqlite:///{tmp_path / 'other' / 'there.db'}"
    for _ in range(2):
        assert main(["sync", "run_dir=run", f"tracking.uri={uri}"]) == 0
    assert "All is sent of 1 run in run" in capsys.readouterr().err
    assert is_whole(tmp_path / "mlflow.db", 9)
    assert is_whole(tmp_path / "other" / "there.db", 9)
    assert steps(tmp_path / "other" / "there.db", "test/accuracy") == [0]
    (there,) = MlflowClient(uri).search_runs(["1"])
    assert there.data.params["seed"] == "7"
    folder = tmp_path / "other" / "mlruns" / there.info.run_id / "artifacts"
    assert (folder / "environment.json").read_text() == commit
    assert (folder / "report.txt").read_text() == "accuracy 0.5\n"
    assert (folder / "config.yaml").read_text() == run.config.read_text()


def test_a_server_that_is_away_changes_nothing_and_is_asked_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        finished(tmp_path / "runs" / name)
    before = [state(tmp_path / "runs" / name) for name in ("one", "two")]
    assert main(["sync", f"tracking.uri=http://127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr()
    assert said.out.count("no answer: ") == 2
    assert said.err.endswith("Not all of 2 runs is sent: the same command tries again.\n")
    assert [state(tmp_path / "runs" / name) for name in ("one", "two")] == before


def test_what_cannot_be_sent_holds_up_no_other_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("damaged", "gone", "hidden", "whole"):
        finished(tmp_path / name, last=2)
        reset(tmp_path / name)
    (tmp_path / "damaged" / "config.yaml").write_text("seed: [")
    for name, uri, run_id in (("gone", "sqlite:////nowhere/mlflow.db", "f" * 32), ("hidden", "http://***@host", None)):
        spool = Spool(tmp_path / name / "tracking")
        spool.state.uri, spool.state.run_id = uri, run_id
        spool.save()
        spool.close()
    assert main(["sync", f"run_dir={tmp_path}"]) == 1
    said = capsys.readouterr()
    damaged, gone, hidden, whole = said.out.splitlines()[1:]
    assert "damaged/config.yaml" in damaged
    assert "there is no database /nowhere/mlflow.db any more: give another address as tracking.uri=" in gone
    assert "http://***@host had a secret in it, which is not kept: give the address as tracking.uri=" in hidden
    assert " finished " in whole
    assert "not sent" not in whole
    assert "Not all of 3 runs is sent" in said.err


def test_damaged_runs_are_named_and_the_others_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bytes", "lines", "nowhere", "state"):
        finished(tmp_path / "runs" / name, last=2)
    for name in ("lines", "state"):
        reset(tmp_path / "runs" / name)
    (tmp_path / "runs" / "bytes" / "config.yaml").write_bytes(b"\xff\xfe\0")
    with (tmp_path / "runs" / "lines" / "tracking" / "spool.jsonl").open("w") as lines:
        lines.write('{"metrics":{"a":1},"step":1}\n{"time":null}\n{"metrics":{"kept":1},"step":1,"time":1}\n')
    for name, change in {
        "bytes": {"status": None},
        "nowhere": {"status": None, "uri": 5},
        "state": {"sent": "x", "started": [], "tags": 5},
    }.items():
        path = tmp_path / "runs" / name / "tracking" / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main(["sync"]) == 1
    told = {line.split()[0].rpartition("/")[2]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "bytes/config.yaml is damaged: it is no text" in told["bytes"]
    assert "where it was tracked is damaged in tracking/state.json: give the address as tracking." in told["nowhere"]
    assert "not sent" not in told["lines"] + told["state"]
    assert steps(tmp_path / "runs" / "mlflow.db", "kept") == [1]
    (tmp_path / "runs" / "lines" / "report.json").write_text('["a"')
    before = state(tmp_path / "runs" / "lines")
    assert main(["sync", f"tracking.uri=sqlite:///{tmp_path / 'other' / 'there.db'}"]) == 1
    assert state(tmp_path / "runs" / "lines") == before
    told = {line.split()[0].rpartition("/")[2]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "lines/report.json" in told["lines"]
    assert "not sent" not in told["state"]


def test_a_wrong_address_changes_nothing_of_a_run_that_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = finished(tmp_path / "run", last=2).path / "tracking"
    (tmp_path / "text").write_text("root:x:0:0\n")
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0 and no more")
    before = {path: path.read_bytes() for path in tracking.rglob("*") if path.is_file()}
    with refusing("runs/create", 403) as refuses:
        for uri, said in {
            f"sqlite:///{tmp_path / 'text'}": f"{tmp_path / 'text'} is no SQLite database: give another address",
            f"sqlite:///{tmp_path / 'no' / 'x.db'}": f"there is no folder {tmp_path / 'no'}: give another address",
            f"sqlite:///{tmp_path / 'torn.db'}": "file is not a database",
            refuses: "not for you",
        }.items():
            assert main(["sync", "run_dir=run", f"tracking.uri={uri}"]) == 1
            assert said in capsys.readouterr().out
            assert {path: path.read_bytes() for path in tracking.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "no").exists()
    assert main(["sync", "run_dir=run"]) == 0
    assert is_whole(tmp_path / "mlflow.db", 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run_dir=rnus"], "run_dir=rnus: there is no such directory. Did you mean 'runs'?"),
        (["run_dir=runs"], "run_dir=runs holds no run that is tracked."),
        (["run=runs"], "poise sync has no 'run': run_dir=, tracking.uri=."),
        (["tracking.uri=htp://x"], "tracking.uri=htp://x has a scheme that MLflow does not know"),
    ],
)
def test_mistakes_are_said_in_a_line(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    assert main(["sync", *words]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.splitlines()) == 1
