"""poise: a training framework for robust and calibrated training recipes. Names are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Arrays": "poise.data.dataset",
    "Batch": "poise.batch",
    "Calibrator": "poise.calibrator",
    "Classifier": "poise.models.classifier",
    "Evaluator": "poise.evaluator",
    "Findings": "poise.evaluator",
    "Outcome": "poise.batch",
    "Output": "poise.models.classifier",
    "Passes": "poise.recipe",
    "Predictions": "poise.batch",
    "Predictor": "poise.predictor",
    "Recipe": "poise.recipe",
    "RecipeStack": "poise.stack",
    "Refusal": "poise.rules",
    "Result": "poise.result",
    "Splits": "poise.data.dataset",
    "Step": "poise.step",
    "Subject": "poise.evaluator",
    "Task": "poise.recipe",
    "Threat": "poise.attacks.threat",
    "TrainingModule": "poise.module",
    "UserError": "poise.errors",
    "evaluate": "poise.evaluating",
    "fit": "poise.train",
}

if not TYPE_CHECKING:  # type checkers read __init__.pyi

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'poise' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *_HOMES])
