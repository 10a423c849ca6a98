"""Predictor: model plus calibrator, inputs in, probabilities out; what is shipped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from poise import registry
from poise.batch import as_input
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.models.lookup import build

FORMAT = 1


@dataclass(frozen=True)
class Card:
    """What a predictor says of itself, in `predictor.json`.

    Args:
        input_shape: of one example.
        class_names: C names.
        valid_range: of inputs; None where there is none.
        model: name and parameters of a registered model, a `module:make`, or None for somebody's own object.
        head: name and parameters of the recipe that made the head; None for the model's own.
        linear_head: whether the head is one linear layer, whatever made it.
        calibrator: name and parameters; None without one.
    """

    input_shape: Sequence[int]
    class_names: Sequence[str]
    valid_range: tuple[float, float] | None
    model: Mapping[str, Any] | None = None
    head: Mapping[str, Any] | None = None
    linear_head: bool = False
    calibrator: Mapping[str, Any] | None = None
    format: int = field(default=FORMAT)


class Predictor(nn.Module):
    """Calibrated class probabilities [N, C] for inputs [N, *input] in their valid range.

    Args:
        model: inputs to logits.
        card: what it is.
        calibrator: logits to calibrated logits; none if None.
    """

    def __init__(self, model: Classifier, card: Card, calibrator: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.calibrator = nn.Identity() if calibrator is None else calibrator
        self.card = card

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "N *input"]) -> Float[Tensor, "N C"]:
        """Probabilities [N, C]; uint8 pictures are taken as 0…255.

        Raises:
            UserError: inputs of another shape, outside the valid range, or not finite.
        """
        x = self._checked(x)
        probabilities: Tensor = self.calibrator(self.model(x).float()).softmax(1)
        return probabilities

    def _checked(self, x: Tensor) -> Tensor:
        shape = tuple(self.card.input_shape)
        if tuple(x.shape[1:]) != shape:
            raise UserError(
                f"inputs have shape {tuple(x.shape)}; this predictor takes [N, {', '.join(map(str, shape))}]"
            )
        parameter = next(self.model.parameters())
        x = as_input(x).to(parameter.device)
        if not torch.isfinite(x).all():
            raise UserError("inputs are NaN or infinite")
        low, high = self.card.valid_range or (-torch.inf, torch.inf)
        if len(x) and (x.min() < low - 1e-6 or x.max() > high + 1e-6):
            raise UserError(f"inputs go from {x.min():.4g} to {x.max():.4g}, outside the valid range {low:g}…{high:g}")
        return x.to(parameter.dtype)

    def save(self, directory: Path) -> None:
        """Write `model.safetensors` and `predictor.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().cpu().clone() for name, value in self.state_dict().items()}
        save_file(state, directory / "model.safetensors")
        (directory / "predictor.json").write_text(json.dumps(asdict(self.card), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None, trust: bool = False) -> "Predictor":
        """A predictor from its directory, or from that of a run.

        Args:
            path: a directory with `predictor.json`, or a run directory with `predictor/`.
            model: an instance to load the weights into, for a model that is somebody's own object.
            trust: whether code that the predictor names but poise does not know may be imported.

        Raises:
            UserError: nothing there, a file that cannot be read, or a model that cannot be rebuilt.
        """
        directory = _directory(Path(path))
        card = _card(directory / "predictor.json")
        built = _model(card, model, trust)
        calibrator = None if card.calibrator is None else _made("calibrator", card.calibrator, trust)
        predictor = cls(built, card, calibrator)
        try:
            state = load_file(directory / "model.safetensors")
            _match_dtype(predictor, state)
            predictor.load_state_dict(state)
        except Exception as error:  # safetensors raises its own, untyped errors
            reason = str(error).splitlines()[0]
            raise UserError(f"{directory / 'model.safetensors'} does not fit this predictor: {reason}") from error
        return predictor


def _match_dtype(predictor: Predictor, state: Mapping[str, Tensor]) -> None:
    wide = any(v.dtype == torch.float64 for n, v in state.items() if n.startswith("model."))
    predictor.model.to(torch.float64 if wide else torch.float32)


def _directory(path: Path) -> Path:
    for directory in (path, path / "predictor"):
        if (directory / "predictor.json").is_file():
            return directory
    raise UserError(f"{path} holds no predictor: give a run directory, or its `predictor` folder")


def _card(path: Path) -> Card:
    try:
        facts = json.loads(path.read_text())
        if facts["format"] > FORMAT:
            raise UserError(f"{path} has format {facts['format']}, this poise reads up to {FORMAT}: update poise")
        if facts["valid_range"] is not None:
            facts["valid_range"] = tuple(facts["valid_range"])
        return Card(**facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a predictor's description: {error}") from error


def _model(card: Card, instance: nn.Module | None, trust: bool) -> Classifier:
    classes = len(card.class_names)
    if instance is not None:
        model = Classifier.wrap(instance, classes)
    elif card.model is None:
        raise UserError("this model was somebody's own object: give Predictor.load(path, model=<an instance of it>)")
    else:
        make = registry.load(_found("model", card.model, trust))
        model = build(make, classes, card.input_shape, **card.model["parameters"])
    if card.linear_head:
        model.head = nn.Linear(model.feature_width, classes)
    elif card.head is not None:
        model.head = _made("recipe", card.head, trust).head(model.feature_width, classes)
    return model


def _made(kind: str, described: Mapping[str, Any], trust: bool) -> Any:
    return registry.load(_found(kind, described, trust))(**described["parameters"])


def _found(kind: str, described: Mapping[str, Any], trust: bool) -> registry.Record:
    """The record of a name; code that is not registered is imported only on trust."""
    name = described["name"]
    if ":" in name and not trust:
        raise UserError(
            f"this predictor's {kind} is {name}, which poise does not know: give Predictor.load(path, trust=True) "
            "if you trust that code" + (", or model=<an instance>" if kind == "model" else "")
        )
    return registry.find(kind, name)
