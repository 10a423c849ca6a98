"""A predictor as a model of MLflow: a few files and the code that reads them, nothing pickled."""

import json
from importlib.metadata import distribution, version
from pathlib import Path
from typing import TYPE_CHECKING

from poise.card import Card, read_card
from poise.secrets import redact

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature
    from mlflow.tracking import MlflowClient

NAME = "model"  # of MLflow's own guides: runs:/<id>/model
PREDICTOR = "artifacts/predictor"  # in the model's directory
CODE = Path(__file__).with_name("served.py")
PINNED = ("torch", "safetensors")
EXAMPLE = 4096  # values of an input, beyond which no example is kept: megabytes of one number
WEIGHTS = "model.safetensors"
NAMED = 20  # classes in a description


def of_run(client: "MlflowClient", run_id: str) -> "LoggedModel | None":
    """The model of a run, whole or begun; None where there is none."""
    outputs = client.get_run(run_id).outputs
    found = (client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else ()))
    return next((model for model in found if model.name == NAME), None)


def is_whole(model: "LoggedModel") -> bool:
    """Whether all of it has been sent."""
    return model.status == "READY"


def save(predictor: Path, path: Path, model: "Model") -> None:
    """Write a directory that MLflow loads and serves.

    Args:
        predictor: the directory of a saved predictor.
        path: of the directory to write; not there yet.
        model: MLflow's record of it, which is filled in.
    """
    import mlflow.pyfunc
    import numpy as np

    card = read_card(predictor / "predictor.json")
    example = np.full((1, *card.input_shape), sum(card.valid_range or (0.0, 0.0)) / 2, np.float32)
    mlflow.pyfunc.save_model(
        path=str(path),
        python_model=str(CODE),
        artifacts={"predictor": str(predictor)},
        signature=_signature(card),
        input_example=example if example.size <= EXAMPLE else None,
        pip_requirements=requirements(),
        metadata={"class_names": list(card.class_names), "valid_range": card.valid_range and list(card.valid_range)},
        mlflow_model=model,
    )
    _without_secrets(path)


def description(predictor: Path, run_id: str) -> str:
    """What a model takes and gives, and how it is served, in Markdown."""
    card = read_card(predictor / "predictor.json")
    shape, names = ", ".join(map(str, card.input_shape)), card.class_names
    low, high = card.valid_range or ("-∞", "∞")
    classes = ", ".join(names[:NAMED]) + (f" … ({len(names)})" if len(names) > NAMED else "")
    return redact(
        f"Inputs [N, {shape}] from {low} to {high}; calibrated probabilities of {classes}. With poise installed:\n\n"
        f"```\nmlflow models serve -m runs:/{run_id}/{NAME} --env-manager local\n```"
    )


def requirements() -> list[str]:
    """What a model is served with, in the versions that trained it."""
    return [_poise(), *(f"{name}=={version(name).partition('+')[0]}" for name in PINNED)]


def _poise() -> str:
    """The place that poise was installed from, if that is no index: there its name may be a stranger's."""
    origin = json.loads(distribution("poise").read_text("direct_url.json") or "{}")
    if not origin:
        return f"poise=={version('poise')}"
    commit = origin.get("vcs_info")
    return f"poise @ {commit['vcs']}+{origin['url']}@{commit['commit_id']}" if commit else f"poise @ {origin['url']}"


def _signature(card: Card) -> "ModelSignature":
    """Inputs in the valid range, not bytes: what comes as JSON is read as numbers of this type."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    inputs = TensorSpec(np.dtype(np.float32), (-1, *card.input_shape))
    return ModelSignature(Schema([inputs]), Schema([TensorSpec(np.dtype(np.float32), (-1, len(card.class_names)))]))


def _without_secrets(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != WEIGHTS:
            path.write_text(redact(path.read_text()))
