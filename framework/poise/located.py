"""Where a run lies: a directory on this machine, or what a tracking server keeps of the run with an id."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from poise.data.kept import cache_home
from poise.errors import UserError
from poise.secrets import redact
from poise.tracking import address

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

_ID = re.compile(r"(?:runs:/)?([0-9a-f]{32})(?:/model)?/?")
REASON = 200  # characters of what a server says


def located(run: str, uri: str | None = None) -> Path:
    """The directory of a run.

    Args:
        run: a directory, `runs:/<id>` or the id alone, as MLflow shows it.
        uri: of the tracking server; None is what MLFLOW_TRACKING_URI says, else mlflow.db in the working directory.

    Returns:
        `run` itself where that is a directory; else a copy, kept for the next time, of the run's `predictor/` and
        `config.yaml`.

    Raises:
        UserError: nothing of that name, no server that answers, no such run there, or one without a predictor.
    """
    path = Path(run)
    if path.is_dir():
        return path
    match = _ID.fullmatch(run)
    if match is None:
        raise UserError(
            f"there is no run {run}: give a run's directory, or the id that MLflow shows of it, as runs:/<id>, which "
            "is 32 of 0-9 and a-f"
        )
    kept = cache_home() / "runs" / match[1]
    if not kept.is_dir():
        where = address.resolve(uri, Path.cwd())
        _check(where, match[1])
        _fetch(match[1], where, kept)
    return kept


def _check(where: str, run_id: str) -> None:
    """Looking creates nothing: MLflow would make an empty database where there is none."""
    if wrong := address.mistake(where):
        raise UserError(f"tracking.uri={redact(where)} {wrong}.")
    database = address.database(where)
    if database is not None and not database.is_file():
        raise UserError(
            f"run {run_id} is looked for in {database}, which is not there: say where it is tracked, as "
            f"tracking.uri=… or in {address.VARIABLE}"
        )


def _fetch(run_id: str, where: str, kept: Path) -> None:
    """Make the copy; it is there when it is whole."""
    from poise.tracking.server import LONGEST, client, patient

    with _asked(run_id, where):
        server = client(where)
        model = _model(server, run_id)
    if model is None:
        raise UserError(
            f"run {run_id} at {redact(where)} has no predictor: it has not come to its end, or is no run of poise"
        )
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            with _asked(run_id, where), patient(LONGEST):
                whole = _downloaded(server, run_id, model, where, Path(folder))
            if not kept.exists():  # another process may have been quicker
                whole.rename(kept)
    except OSError as error:
        raise UserError(f"run {run_id} cannot be kept in {kept.parent}: {error.strerror}") from error


def _model(server: "MlflowClient", run_id: str) -> "LoggedModel | None":
    """The run's model; one that has not arrived whole is none."""
    from poise.tracking import model

    found = model.of_run(server, run_id)
    return found if found is not None and model.is_whole(found) else None


def _downloaded(server: "MlflowClient", run_id: str, model: "LoggedModel", where: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    from poise.tracking.model import PREDICTOR

    whole = folder / "run"
    whole.mkdir()
    server.download_artifacts(run_id, "config.yaml", str(whole))
    predictor = f"{model.artifact_location}/{PREDICTOR}"
    shutil.move(download_artifacts(predictor, dst_path=str(folder), tracking_uri=where), whole / "predictor")
    return whole


@contextmanager
def _asked(run_id: str, where: str) -> Iterator[None]:
    """What goes wrong meanwhile is the server's, and one line."""
    from mlflow.exceptions import MlflowException
    from requests import ConnectionError as NoConnection
    from requests import Timeout

    shown = redact(where)
    try:
        yield
    except Exception as error:  # of the network, of databases, of whatever stores artifacts
        if isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(f"there is no run {run_id} at {shown}") from None
        if isinstance(error.__cause__ or error.__context__, NoConnection | Timeout):
            raise UserError(f"run {run_id} cannot be asked for: no server answers at {shown}") from None
        said = redact(" ".join(str(error).split()))
        raise UserError(f"{shown} does not give run {run_id}: {said[:REASON]}") from None
