"""The writer against MLflow's SQLite: what is rejected is left out, and what cannot be stored holds up nothing."""

import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tracked_runs import rows, statuses, steps, stored_twice

from poise.tracking.server import Server
from poise.tracking.spool import Spool
from poise.tracking.tracker import THEIRS
from poise.tracking.writer import Writer


@pytest.fixture(autouse=True)
def _their_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=THEIRS)
        yield


def send(folder: Path, spool: Spool, description: tuple[dict[str, str], dict[str, str]] = ({}, {})) -> bool:
    uri, state = f"sqlite:///{folder / 'mlflow.db'}", spool.state

    def connect() -> Server:
        return Server(uri, "e", state.key, state.run_id, "r", state.started)

    writer = Writer(spool, connect, lambda: description, "the database")
    writer.start()
    return writer.finish()


def test_what_is_sent_again_is_stored_once_and_the_run_is_found_again(tmp_path: Path) -> None:
    """As if a kill had come between a request and the state, and between making the run and hearing its id."""
    spool = Spool(tmp_path / "spool")
    for step in range(30):
        spool.metrics({"a": 0.1 * step, "b": float("nan"), "c": float("inf")}, step)
    spool.mark("FINISHED")
    lines = (tmp_path / "spool" / "spool.jsonl").read_text()
    assert send(tmp_path, spool)
    spool.close()
    state = (tmp_path / "spool" / "state.json").read_text()
    (tmp_path / "spool" / "spool.jsonl").write_text(lines)
    (tmp_path / "spool" / "state.json").write_text(state.replace(f'"run_id": "{spool.state.run_id}"', '"run_id": null'))
    again = Spool(tmp_path / "spool")
    assert send(tmp_path, again)
    again.close()
    assert again.state.run_id == spool.state.run_id
    assert statuses(tmp_path / "mlflow.db") == ["FINISHED"]
    assert stored_twice(tmp_path / "mlflow.db") == []
    assert len(rows(tmp_path / "mlflow.db", "select * from metrics")) == 90


def test_what_is_rejected_is_said_once_and_the_rest_is_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path / "spool")
    for step in range(50):
        spool.metrics({"good": 1.0, "bad(name)": 1.0, "better": 1.0}, step)
    with caplog.at_level(logging.WARNING, logger="poise"):
        assert send(tmp_path, spool, ({f"p{i}": "1" for i in range(150)} | {"p(": "1"}, {"t": "1"}))
    spool.close()
    assert [message.split(" is rejected")[0] for message in caplog.messages] == ["tracking: p(", "tracking: bad(name)"]
    assert steps(tmp_path / "mlflow.db", "good") == steps(tmp_path / "mlflow.db", "better") == list(range(50))
    assert len(rows(tmp_path / "mlflow.db", "select * from params")) == 150


def test_an_artifact_that_cannot_be_stored_holds_up_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mlruns").write_text("a file in the artifacts' place")
    spool = Spool(tmp_path / "spool")
    spool.artifact("report.txt", "accuracy")
    spool.metrics({"a": 1.0}, 1)
    with caplog.at_level(logging.WARNING, logger="poise"):
        assert send(tmp_path, spool)
    spool.close()
    assert any("the artifact report.txt cannot be stored and is left out" in message for message in caplog.messages)
    assert steps(tmp_path / "mlflow.db", "a") == [1]


def test_a_run_that_somebody_deleted_is_made_anew(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.metrics({"a": 1.0}, 1)
    assert send(tmp_path, spool, ({"p": "1"}, {}))
    first = str(spool.state.run_id)
    delete = partial(Server(f"sqlite:///{tmp_path / 'mlflow.db'}", "e", "", first, "r", 0).client.delete_run, first)
    delete()
    spool.metrics({"a": 2.0}, 2)
    assert send(tmp_path, spool, ({"p": "1"}, {}))
    spool.close()
    assert spool.state.run_id != first
    assert len(rows(tmp_path / "mlflow.db", "select * from params")) == 2
