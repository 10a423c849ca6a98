"""A tracked run, in this process, on MLflow's SQLite: what of it is there in the end."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tracked_runs import statuses, steps, stored_twice

from poise.batch import Batch, Outcome
from poise.config import from_yaml, parse, to_mapping, to_yaml
from poise.recipe import Recipe
from poise.result import Result
from poise.run_directory import RunDirectory
from poise.step import Step
from poise.tracking import facts
from poise.tracking.spool import read_state
from poise.tracking.tracker import tracked as session
from poise.train import run
from small_runs import small_fit

TRACKED = {"name": "mlflow", "every": 2}


def fit(folder: Path, name: str = "run", **options: Any) -> Result:
    """Four steps an epoch."""
    trainer = {"batch_size": 256, **options.pop("trainer", {})}
    recipe = options.pop("recipe", "mixup")
    settings = {"data": "digits", "model": "mlp", "tracking": TRACKED, **options}
    return small_fit(folder / name, recipe, trainer, **settings)


def tracked(folder: Path, name: str = "run") -> tuple[MlflowClient, Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return client, client.get_run(str(read_state(folder / name / "tracking").run_id))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        for words in (["init", "-q", "-b", "topic"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "first"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True)
        result = fit(folder, trainer={"max_epochs": 2})
    return folder, result


def test_parameters_are_flat_and_complete(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    _, found = tracked(folder)
    params = found.data.params
    assert params["recipe.name"] == "mixup"
    assert params["recipe.mixup.alpha"] == "1.0"
    assert params["trainer.max_epochs"] == "2"
    assert params["trainer.progress"] == "false"
    assert params["trainer.max_steps"] == "none"
    assert params["evaluation.name"] == "clean"
    leaves = to_mapping(from_yaml((result.path / "config.yaml").read_text()))
    for group in ("trainer", "tracking", "slurm", "optimizer", "threat"):
        assert {f"{group}.{name}" for name in leaves[group]} <= set(params)


def test_curves_have_their_steps_and_the_report_none(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    client, found = tracked(folder)
    database = folder / "mlflow.db"
    assert steps(database, "train/loss") == steps(database, "train/lr") == [2, 4, 6, 8]
    assert steps(database, "val/accuracy") == [4, 8]
    rates = [point.value for point in client.get_metric_history(found.info.run_id, "train/lr")]
    assert rates == sorted(rates, reverse=True)
    for name, value in result.metrics.items():
        stored = f"best/{name}" if name.startswith("val/") else name
        assert found.data.metrics[stored] == pytest.approx(value)
        assert steps(database, stored) == [0]
    assert stored_twice(database) == []


def test_a_run_is_called_as_its_directory_or_by_its_stack() -> None:
    config = parse(["recipe=trades"])
    assert facts.run_name(config, "mine") == "mine"
    assert facts.run_name(config, "2026-01-02-030405-trades-pgd") == "trades,pgd 2026-01-02-030405"
    assert facts.run_name(parse([]), "2026-01-02-030405-plain") == "plain 2026-01-02-030405"


def test_tags_sort_runs_and_say_what_the_code_was(finished: tuple[Path, Result]) -> None:
    folder, _ = finished
    _, found = tracked(folder)
    tags = found.data.tags
    assert {name: tags[name] for name in ("stack", "data", "model", "strategy", "seed")} == {
        "stack": "mixup",
        "data": "digits",
        "model": "mlp",
        "strategy": "auto",
        "seed": "0",
    }
    assert tags["mlflow.runName"] == "run"
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["mlflow.source.git.branch"] == "topic"
    assert tags["git.dirty"] == "true"
    assert found.info.status == "FINISHED"
    assert found.info.start_time < found.info.end_time
    assert "│ accuracy" in tags["mlflow.note.content"]


def test_files_that_tell_of_a_run_are_artifacts(finished: tuple[Path, Result], tmp_path: Path) -> None:
    folder, result = finished
    client, found = tracked(folder)
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    left = {path.name for path in result.path.iterdir()} & {"report.html", "figures"}
    told = {"config.yaml", "log.txt", "report.json", "report.txt", "git.json", "environment.json"}
    assert names == told | left

    def read(name: str) -> str:
        return Path(client.download_artifacts(found.info.run_id, name, str(tmp_path))).read_text()

    for name in ("config.yaml", "report.json"):
        assert read(name) == (result.path / name).read_text()
    assert "temperature_scaling" in read("report.txt")
    assert json.loads(read("git.json"))["changed"]
    assert "torch" in json.loads(read("environment.json"))["packages"]
    assert (folder / "mlruns" / found.info.run_id / "artifacts" / "log.txt").exists()


def test_data_and_model_stand_beside_a_run(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    client, found = tracked(folder)
    assert [entry.dataset.name for entry in found.inputs.dataset_inputs] == ["digits", "digits"]
    assert found.outputs is not None
    (output,) = found.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert {metric.key for metric in model.metrics or ()} >= {"test/accuracy", "best/val/accuracy"}
    (weights,) = (folder / "mlruns" / "models").rglob("model.safetensors")
    assert weights.read_bytes() == (result.path / "predictor" / "model.safetensors").read_bytes()


def test_a_run_may_belong_to_another(finished: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = finished
    uri, (_, parent) = f"sqlite:///{folder / 'mlflow.db'}", tracked(folder)
    config = parse([f"run_dir={tmp_path}", f"tracking.uri={uri}", "tracking.experiment=elsewhere"])
    for name, owner in (("child", parent.info.run_id), ("orphan", "f" * 32)):
        directory = RunDirectory(tmp_path / name)
        directory.claim(to_yaml(config))
        with session(config, directory, first=True, parent=owner, tags={"kind": "evaluation"}):
            pass
    client = MlflowClient(uri)
    child, orphan = (
        client.get_run(str(read_state(tmp_path / name / "tracking").run_id)) for name in ("child", "orphan")
    )
    assert child.data.tags["kind"] == orphan.data.tags["kind"] == "evaluation"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.experiment_id == parent.info.experiment_id
    assert "mlflow.parentRunId" not in orphan.data.tags
    assert client.get_experiment(orphan.info.experiment_id).name == "elsewhere"


def test_a_finished_run_that_is_sent_starts_nothing(
    finished: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = finished
    monkeypatch.chdir(folder)
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self.name))
    run(from_yaml((result.path / "config.yaml").read_text()))
    assert started == []


class Breaks(Recipe):
    """Ends the run in its second epoch, once."""

    error: BaseException | None = None

    def objective(self, batch: Batch, step: Step) -> Outcome:
        if step.global_step == 6 and Breaks.error is not None:
            raise Breaks.error
        return super().objective(batch, step)


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_how_a_run_ended_is_tracked_and_it_goes_on_as_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Breaks, "error", error)
    with pytest.raises(type(error)):
        fit(tmp_path, recipe={"breaks": Breaks()})
    _, before = tracked(tmp_path)
    assert before.info.status == status
    assert steps(tmp_path / "mlflow.db", "train/loss") == [2, 4, 6]
    monkeypatch.setattr(Breaks, "error", None)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fit(tmp_path, recipe={"breaks": Breaks()}, trainer={"checkpoint_every": 3})
    _, after = tracked(tmp_path)
    assert after.info.run_id == before.info.run_id
    assert statuses(tmp_path / "mlflow.db") == ["FINISHED"]
    assert steps(tmp_path / "mlflow.db", "train/loss") == [2, 4, 6, 8, 10, 12]
    assert stored_twice(tmp_path / "mlflow.db") == []
    assert not (tmp_path / "elsewhere" / "mlflow.db").exists()


def test_a_database_that_cannot_be_made_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"
    tracking = {"name": "mlflow", "uri": uri}
    with monkeypatch.context() as impatient:
        impatient.setattr("poise.tracking.writer.PATIENCE", 1.0)
        impatient.setattr("poise.tracking.writer.IMPATIENCE", 1.0)
        result = fit(tmp_path, tracking=tracking)
    assert result.metrics["test/accuracy"] >= 0
    said = capsys.readouterr().err
    assert f"poise sync run_dir={tmp_path / 'run'} sends them." in said
    (tmp_path / "file").unlink()
    assert fit(tmp_path, tracking=tracking).metrics == result.metrics
    assert statuses(tmp_path / "file" / "mlflow.db") == ["FINISHED"]
    assert len(steps(tmp_path / "file" / "mlflow.db", "test/accuracy")) == 1
