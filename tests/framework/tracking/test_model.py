"""What a run leaves on a tracking server that was away at first: it comes later, loads, is served and is found."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking import MlflowClient
from tracked_runs import environment, free_port, server, state, wait_for

from poise.card import Card
from poise.config import parse, to_yaml
from poise.data.sources.digits import Digits
from poise.errors import UserError
from poise.located import located
from poise.models.mlp import mlp
from poise.models.small_cnn import small_cnn
from poise.predictor import Predictor
from poise.run_directory import RunDirectory
from poise.tracking.model import requirements, save
from poise.tracking.tracker import run_id as tracked_as
from poise.tracking.tracker import send_rest, tracked

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")  # its modules warn of one another

PICTURE = bytes(range(256))
METRICS = {"test/accuracy": 0.5, "val/accuracy": 0.25}
CALIBRATOR = {"name": "temperature_scaling", "parameters": {}}


def predictor(**changes: Any) -> Predictor:
    from poise_recipes import TemperatureScaling

    torch.manual_seed(0)
    calibrator = TemperatureScaling()
    calibrator.temperature.fill_(0.1)
    described = {"name": "small_cnn", "parameters": {"width": 4}}
    facts = {"input_shape": (1, 8, 8), "valid_range": (0.0, 1.0), "model": described, "calibrator": CALIBRATOR}
    card = Card(class_names=("no", "yes", "perhaps"), **{**facts, **changes})
    return Predictor(small_cnn(3, (1, 8, 8), width=4), card, calibrator)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunDirectory, list[str]]]:
    """A server's address, the run's directory, and what the run said while there was no server."""
    folder = tmp_path_factory.mktemp("sent")
    uri = f"http://127.0.0.1:{free_port()}"
    config = parse([f"run_dir={folder / 'run'}", f"tracking.uri={uri}"])
    directory = RunDirectory(folder / "run")
    directory.claim(to_yaml(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        said: list[str] = []
        patch.setattr("poise.tracking.writer.IMPATIENCE", 0.1)
        patch.setattr("poise.tracking.writer.warn", said.append)
        patch.setattr("poise.tracking.tracker.warn", said.append)
        with tracked(config, directory, first=True) as tracker:
            tracker.data(Digits().load(0))
            predictor().save(directory.predictor)
            (directory.path / "figures" / "shifts").mkdir(parents=True)
            for name in ("figures/reliability.png", "figures/shifts/fog.png"):
                (directory.path / name).write_bytes(PICTURE)
            (directory.path / "report.html").write_text("<h1>report</h1>")
            tracker.report(METRICS, "accuracy 0.5")
            wait_for(lambda: said)
            directory.write_report(METRICS)
        with server(folder, int(uri.rpartition(":")[2])):
            send_rest(config, directory)
            yield uri, directory, said


def test_a_server_that_is_away_is_said_and_holds_nothing_up(sent: tuple[str, RunDirectory, list[str]]) -> None:
    _, directory, (fails, kept) = sent
    assert "fails and is tried again" in fails
    assert f"poise sync run_dir={directory.path} sends them." in kept
    assert state(directory.path).status == "FINISHED"


def test_report_and_figures_come_as_they_were(sent: tuple[str, RunDirectory, list[str]], tmp_path: Path) -> None:
    uri, directory, _ = sent
    client, run_id = MlflowClient(uri), str(state(directory.path).run_id)
    for name in ("figures/reliability.png", "figures/shifts/fog.png", "report.html", "report.json", "config.yaml"):
        there = Path(client.download_artifacts(run_id, name, str(tmp_path)))
        assert there.read_bytes() == (directory.path / name).read_bytes()
    assert [found.path for found in client.list_artifacts(run_id, "figures/shifts")] == ["figures/shifts/fog.png"]


def test_the_run_has_one_model_with_what_it_came_to_and_its_data(sent: tuple[str, RunDirectory, list[str]]) -> None:
    uri, directory, _ = sent
    client, run_id = MlflowClient(uri), str(state(directory.path).run_id)
    run = client.get_run(run_id)
    assert run.outputs is not None
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.source_run_id, model.status) == ("model", run_id, "READY")
    assert f"mlflow models serve -m runs:/{run_id}/model --env-manager local" in model.tags["mlflow.note.content"]
    assert "[N, 1, 8, 8] from 0.0 to 1.0" in model.tags["mlflow.note.content"]
    assert model.params is not None
    assert model.params["optimizer.name"] == "sgd"
    data = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert {context: dataset.name for context, dataset in data.items()} == {
        "training": "digits",
        "evaluation": "digits",
    }
    assert json.loads(data["training"].profile)["splits"] == {
        "train": 1080,
        "val": 179,
        "calibration": 179,
        "test": 359,
    }
    found = {metric.key: metric for metric in model.metrics or ()}
    assert {key: metric.value for key, metric in found.items()} == {"test/accuracy": 0.5, "best/val/accuracy": 0.25}
    assert found["test/accuracy"].dataset_digest == data["evaluation"].digest
    assert found["best/val/accuracy"].dataset_digest is None
    assert len(client.get_metric_history(run_id, "test/accuracy")) == 1


def test_a_run_is_found_by_its_id_and_kept(
    sent: tuple[str, RunDirectory, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, directory, _ = sent
    run_id = str(state(directory.path).run_id)
    copy = located(f"runs:/{run_id}/model", uri)
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(Predictor.load(copy)(x), predictor()(x))
    assert (copy / "config.yaml").read_text() == directory.config.read_text()
    assert sorted(path.name for path in copy.iterdir()) == ["config.yaml", "predictor"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert located(run_id) == copy
    assert tracked_as(copy) == tracked_as(directory.path) == run_id


def test_what_a_server_does_not_have_is_one_line(sent: tuple[str, RunDirectory, list[str]]) -> None:
    uri, _, _ = sent
    with pytest.raises(UserError, match=f"^there is no run {'f' * 32} at {uri}$"):
        located("f" * 32, uri)
    client = MlflowClient(uri)
    bare = client.create_run("0").info.run_id
    with pytest.raises(UserError, match=f"^run {bare} at {uri} has no predictor: it has not come to its end"):
        located(bare, uri)


def post(port: int, body: object) -> tuple[int, Any]:
    data = json.dumps(body).encode()
    address = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_it_is_served_over_http(sent: tuple[str, RunDirectory, list[str]], tmp_path: Path) -> None:
    uri, directory, _ = sent
    port, model = free_port(), f"runs:/{state(directory.path).run_id}/model"
    words = ["-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    scripts = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # where MLflow looks for uvicorn
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment(MLFLOW_TRACKING_URI=uri, PATH=scripts, MLFLOW_DISABLE_TELEMETRY="true"),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "said").read_text()
        x = torch.rand(3, 1, 8, 8)
        for key in ("inputs", "instances"):
            status, answer = post(port, {key: x.tolist()})
            assert status == 200
            assert np.allclose(answer["predictions"], predictor()(x).numpy(), rtol=0, atol=1e-6)
        for bad, message in (
            ((255 * x).tolist(), "outside the valid range 0…1"),
            (x[:, 0].tolist(), "Shape of input (3, 8, 8) does not match expected shape (-1, 1, 8, 8)."),
        ):
            status, answer = post(port, {"inputs": bad})
            assert status == 400
            assert message in answer["message"].splitlines()[-1]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_rows_of_a_table_come_as_a_frame(tmp_path: Path) -> None:
    model = {"name": "mlp", "parameters": {}}
    shipped = Predictor(mlp(3, (4,)), Card((4,), ("a", "b", "c"), None, model=model))
    shipped.save(tmp_path / "predictor")
    save(tmp_path / "predictor", tmp_path / "model", Model())
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    loaded = load_model(str(tmp_path / "model"))
    rows = torch.randn(6, 4)
    expected = shipped(rows).numpy()
    frame = pd.DataFrame(rows.numpy(), columns=list("wxyz"))
    assert np.allclose(loaded.predict(frame), expected, rtol=0, atol=1e-6)
    body = json.dumps({"dataframe_split": frame.to_dict(orient="split")})
    answer = invocations(body, "application/json", loaded, loaded.metadata.get_input_schema())
    assert answer.status == 200
    assert np.allclose(json.loads(answer.response)["predictions"], expected, rtol=0, atol=1e-6)


def test_a_model_says_what_it_needs_and_holds_no_pickle(tmp_path: Path) -> None:
    predictor().save(tmp_path / "predictor")
    save(tmp_path / "predictor", tmp_path / "model", Model())
    names = {path.name for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert {"served.py", "model.safetensors", "predictor.json", "input_example.json"} <= names
    assert not any(name.endswith((".pkl", ".pickle", ".pt", ".bin")) for name in names)
    read = Model.load(str(tmp_path / "model"))
    assert read.metadata == {"class_names": ["no", "yes", "perhaps"], "valid_range": [0.0, 1.0]}
    needed = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert set(requirements()) <= set(needed)
    assert [line.partition("==")[0].partition(" @ ")[0] for line in requirements()] == ["poise", "torch", "safetensors"]


def test_an_example_that_would_be_large_is_left_out(tmp_path: Path) -> None:
    predictor(input_shape=(3, 64, 64)).save(tmp_path / "predictor")
    save(tmp_path / "predictor", tmp_path / "model", Model())
    assert not (tmp_path / "model" / "input_example.json").exists()


def test_a_model_that_was_somebodys_own_object_says_so_when_it_is_loaded(tmp_path: Path) -> None:
    predictor(model=None).save(tmp_path / "predictor")
    save(tmp_path / "predictor", tmp_path / "model", Model())
    from mlflow.pyfunc import load_model

    with pytest.raises(MlflowException, match=r"somebody's own object"):
        load_model(str(tmp_path / "model"))
