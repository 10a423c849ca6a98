"""One MLflow run, made or found again: what is sent to it, in requests of a size that MLflow takes."""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.secrets import redact
from poise.tracking import address, facts, model

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

Send = Callable[[Sequence[Any]], object]

log = logging.getLogger("poise")

METRICS, PARAMETERS = 1000, 100  # of MLflow, in a request
SLOWEST, LONGEST = 2**20, 120.0  # bytes a second, and seconds, of an upload that is waited for
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
KEY_TAG = "poise.key"
PARENT_TAG = "mlflow.parentRunId"
CONTEXT_TAG = "mlflow.data.context"
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the writer repeats what fails
    TIMEOUT: "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else a model takes the working directory's project file with it
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
CHATTER = ("mlflow", "alembic", "urllib3", "git")


class Server:
    """A run on a tracking server, or in a database.

    Opening makes what is not there: the database, the experiment, the run.

    Args:
        uri: of the server or database.
        experiment: that a new run goes into.
        key: by which a run is found again that was made but whose id was not heard.
        run_id: of the run, if it has been made.
        name: of a new run.
        started: when a new run began, in milliseconds.
        parent: id of the run that a new one belongs to, in whose experiment it is then made.

    Raises:
        Exception: whatever MLflow, the network or the database says; opening again may work.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        key: str,
        run_id: str | None,
        name: str,
        started: int,
        parent: str | None = None,
    ) -> None:
        _import_mlflow()
        with _alone(uri):
            self.client = client(uri)
            if run_id is not None and self.is_alive(run_id):
                self.run_id = run_id
            elif parent is not None and self.is_alive(parent):
                place = self.client.get_run(parent).info.experiment_id
                self.run_id = self._made(place, {KEY_TAG: key, PARENT_TAG: parent}, name, started)
            else:
                self.run_id = self._made(self._experiment(uri, experiment), {KEY_TAG: key}, name, started)
        self._rejected: set[str] = set()

    def describe(self, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Send parameters and tags."""
        from mlflow.entities import Param, RunTag

        log_batch = partial(self.client.log_batch, self.run_id)
        self._batches([Param(*item) for item in parameters.items()], PARAMETERS, lambda some: log_batch(params=some))
        self._batches([RunTag(*item) for item in tags.items()], PARAMETERS, lambda some: log_batch(tags=some))

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Send metrics; what was sent before is stored once, for it has the same time."""
        from mlflow.entities import Metric

        found = [
            Metric(name, value, record["time"], record["step"])
            for record in records
            for name, value in record["metrics"].items()
        ]
        self._batches(found, METRICS, partial(self.client.log_batch, self.run_id))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Send a file into a folder of the run's artifacts."""
        with patient(upload_seconds(path)):
            self.client.log_artifact(self.run_id, str(path), folder or None)

    def inputs(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Send what the run learns from and is tested on."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        found = []
        for described in datasets:
            fields = dict(described)
            tag = InputTag(CONTEXT_TAG, fields.pop("context"))
            found.append(DatasetInput(Dataset(**fields), [tag]))
        self.client.log_inputs(self.run_id, found)

    def model(self, predictor: Path, scratch: Path) -> None:
        """Send a predictor as the run's model, written into a scratch folder meanwhile; one that is whole stays."""
        from mlflow.models import Model

        made = model.of_run(self.client, self.run_id) or self._new_model(predictor)
        if model.is_whole(made):
            return
        record = Model(
            artifact_path=made.artifact_location, run_id=self.run_id, model_uuid=made.model_id, model_id=made.model_id
        )
        path = scratch / model.NAME
        shutil.rmtree(path, ignore_errors=True)  # what a kill has left of it
        try:
            model.save(predictor, path, record)
            with patient(upload_seconds(predictor / model.WEIGHTS)):
                self.client.log_model_artifacts(made.model_id, str(path))
        finally:
            shutil.rmtree(path, ignore_errors=True)
        self.client.finalize_logged_model(made.model_id, "READY")

    def values(self, values: Mapping[str, float], time: int, dataset: Mapping[str, str]) -> None:
        """Send what the run's model came to on some data: numbers that the run has already, with the same time."""
        from mlflow.entities import Metric

        made = model.of_run(self.client, self.run_id)
        if made is not None:
            on = partial(Metric, dataset_name=dataset.get("name"), dataset_digest=dataset.get("digest"))
            of_model = partial(on, timestamp=time, step=0, model_id=made.model_id, run_id=self.run_id)
            found = [of_model(key=name, value=value) for name, value in values.items()]
            self._batches(found, METRICS, partial(self.client.log_batch, self.run_id))

    def mark(self, status: str, time: int) -> None:
        """Say what has become of the run."""
        if status in ("RUNNING", "SCHEDULED"):
            self.client.update_run(self.run_id, status=status)
        else:
            self.client.set_terminated(self.run_id, status, end_time=time)

    def is_alive(self, run_id: str) -> bool:
        """Whether the server answers, and has a run, not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _new_model(self, predictor: Path) -> "LoggedModel":
        """A model that is to come; a kill before it is linked with the run leaves it behind, empty."""
        from mlflow.entities import LoggedModelOutput

        run = self.client.get_run(self.run_id)
        made = self.client.create_logged_model(
            run.info.experiment_id,
            model.NAME,
            self.run_id,
            params=run.data.params,
            tags={facts.DESCRIPTION: model.description(predictor, self.run_id)},
        )
        self.client.log_outputs(self.run_id, [LoggedModelOutput(made.model_id, step=0)])
        return made

    def _batches(self, items: Sequence[Any], size: int, send: Send) -> None:
        for start in range(0, len(items), size):
            self._send(items[start : start + size], send)

    def _send(self, items: Sequence[Any], send: Send) -> None:
        """Send all that is taken: what is rejected with others is sent in halves, until it is alone."""
        from mlflow.exceptions import MlflowException

        try:
            send(items)
        except MlflowException as error:
            if error.get_http_status_code() != 400 or not self.is_alive(self.run_id):
                raise
            if len(items) == 1:
                self._reject(items[0].key, str(error))
                return
            self._send(items[: len(items) // 2], send)
            self._send(items[len(items) // 2 :], send)

    def _reject(self, name: str, reason: str) -> None:
        if name not in self._rejected:
            log.warning("tracking: %s is rejected and left out: %s", name, reason)
        self._rejected.add(name)

    def _made(self, place: str, tags: dict[str, str], name: str, started: int) -> str:
        found = self.client.search_runs([place], f"tags.`{KEY_TAG}` = '{tags[KEY_TAG]}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        made = self.client.create_run(place, start_time=started, tags=tags, run_name=redact(name))
        return str(made.info.run_id)

    def _experiment(self, uri: str, name: str) -> str:
        """The experiment's id; another run may make it at the same time."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(name, artifact_location=_artifacts(uri)))
        except MlflowException:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def client(uri: str) -> "MlflowClient":
    """MLflow's client: it says little, and gives up at once rather than trying for minutes."""
    _import_mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _import_mlflow() -> None:
    """Import it, quietly; that takes a second or more, in which others need not wait for a lock."""
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    import mlflow.tracking  # noqa: F401

    for chatty in CHATTER:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def upload_seconds(path: Path) -> float:
    """How long a file may take before nobody waits for it any more."""
    return min(path.stat().st_size / SLOWEST, LONGEST) if path.is_file() else 0.0


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Let MLflow wait so long for an answer meanwhile: a server may pass a large file on before it answers."""
    before = os.environ[TIMEOUT]
    os.environ[TIMEOUT] = str(max(int(before), round(seconds)))
    try:
        yield
    finally:
        os.environ[TIMEOUT] = before


def _artifacts(uri: str) -> str | None:
    """Where artifacts go that no server takes: beside an SQLite database, else in the working directory."""
    if not address.is_database(uri):
        return None
    path = address.database(uri)
    return ((path.parent if path else Path.cwd()) / "mlruns").as_uri()


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Let one process at a time make or migrate an SQLite database: MLflow's migrations fail in each other's way."""
    path = address.database(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
