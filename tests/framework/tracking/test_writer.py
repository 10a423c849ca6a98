"""The writer against MLflow's SQLite: what is rejected is left out, and what cannot be stored holds up nothing."""

import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from mlflow.entities import LoggedModelOutput
from tracked_runs import refusing, rows, statuses, steps, stored_twice

from poise.card import Card
from poise.tracking import writer as module
from poise.tracking.server import Server, patient, upload_seconds
from poise.tracking.spool import Spool
from poise.tracking.tracker import THEIRS
from poise.tracking.writer import Writer


@pytest.fixture(autouse=True)
def _their_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=THEIRS)
        yield


def small_predictor(folder: Path) -> Path:
    (folder / "predictor").mkdir()
    (folder / "predictor" / "predictor.json").write_text(Card((2,), ("a", "b"), None, sha256="0" * 64).text())
    return folder / "predictor"


def send(
    folder: Path,
    spool: Spool,
    description: tuple[dict[str, str], dict[str, str]] = ({}, {}),
    kind: type[Server] = Server,
) -> bool:
    uri, state = f"sqlite:///{folder / 'mlflow.db'}", spool.state

    def connect() -> Server:
        return kind(uri, "e", state.key, state.run_id, "r", state.started)

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


@pytest.mark.parametrize(
    ("path", "code", "said"), [("log-batch", 403, "not for you"), ("runs/update", 500, "500 error")]
)
def test_nobody_waits_for_a_server_that_answers_and_takes_nothing_or_not_what_comes_next(
    tmp_path: Path, path: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3.0)
    monkeypatch.setattr(module, "IMPATIENCE", 3.0)
    spool = Spool(tmp_path / "spool")
    spool.metrics({"a": 1.0}, 1)
    spool.mark("FINISHED")
    described = []

    def describe() -> tuple[dict[str, str], dict[str, str]]:
        described.append("once")
        return {"p": "1"}, {}

    with refusing(path, code) as uri:
        state = spool.state
        writer = Writer(spool, lambda: Server(uri, "e", state.key, state.run_id, "r", 0), describe, uri)
        writer.start()
        waits = threading.Thread(target=writer.finish, daemon=True)
        began = time.monotonic()
        waits.start()
        waits.join(30)
        assert not waits.is_alive()
        assert time.monotonic() - began > 2.9
        assert said in str(writer.error)
    assert spool.unsent > 0
    assert described == ["once"]
    spool.close()


class Counted(Server):
    """Remembers what it was given to store."""

    given: ClassVar[list[str]] = []

    def artifact(self, path: Path, folder: str = "") -> None:
        self.given.append(path.name)
        super().artifact(path, folder)

    def model(self, predictor: Path, scratch: Path) -> None:
        self.given.append(predictor.name)
        super().model(predictor, scratch)


def test_where_files_cannot_be_stored_numbers_are_and_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first file is tried again, for each attempt takes a pause; the others are not."""
    (tmp_path / "mlruns").write_text("a file in the artifacts' place")
    spool = Spool(tmp_path / "spool")
    for name in ("report.txt", "figures/one.svg", "figures/two.svg"):
        spool.artifact(name, "accuracy")
    spool.model(small_predictor(tmp_path))
    spool.values({"final": 1.0}, 1, {})
    spool.metrics({"a": 1.0}, 1)
    with caplog.at_level(logging.WARNING, logger="poise"):
        assert send(tmp_path, spool, kind=Counted)
    spool.close()
    left_out = [
        text.partition(" cannot be stored and is left out")[0] for text in caplog.messages if "left out" in text
    ]
    names = ("artifact report.txt", "artifact figures/one.svg", "artifact figures/two.svg", "model")
    assert left_out == [f"tracking: the {name}" for name in names]
    assert Counted.given == ["report.txt"] * 3 + ["one.svg", "two.svg", "predictor"]
    assert steps(tmp_path / "mlflow.db", "a") == [1]
    assert steps(tmp_path / "mlflow.db", "final") == [0]


def test_a_model_that_was_sent_in_part_is_sent_whole_and_once(tmp_path: Path) -> None:
    """As if a kill had come while it was on its way, after MLflow was told of it, and after all was there."""
    predictor = small_predictor(tmp_path)
    server = Server(f"sqlite:///{tmp_path / 'mlflow.db'}", "e", "key", None, "r", 0)
    client, run_id = server.client, server.run_id
    experiment = client.get_run(run_id).info.experiment_id
    begun = client.create_logged_model(experiment, "model", run_id)
    client.log_outputs(run_id, [LoggedModelOutput(begun.model_id, step=0)])
    (tmp_path / "model" / "artifacts").mkdir(parents=True)
    for _ in range(2):
        server.model(predictor, tmp_path)
    (whole,) = client.search_logged_models([experiment])
    assert (whole.model_id, whole.status) == (begun.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    assert outputs is not None
    assert len(outputs.model_outputs) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["mlruns", "predictor"]


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


def test_a_large_file_has_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(30 * 2**20)
    assert upload_seconds(tmp_path / "large") == 30
    assert upload_seconds(tmp_path / "absent") == 0
    with patient(upload_seconds(tmp_path / "large")):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"
    with patient(1):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
