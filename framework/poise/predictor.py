"""Predictor: model plus calibrator, inputs in, probabilities out; what is shipped."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from poise.batch import as_input
from poise.calibrator import Calibrator
from poise.card import Card, read_card
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.models.weights import State, check_finite, misfits
from poise.rebuilding import rebuilt

CARD = "predictor.json"
WEIGHTS = "model.safetensors"
PICTURES = (0.0, 1.0)  # the valid range in which bytes are pictures


class Predictor(nn.Module):
    """Calibrated class probabilities [N, C] for inputs [N, *input] in their valid range, always in evaluation mode.

    Args:
        model: inputs to logits.
        card: what it is.
        calibrator: logits to calibrated logits; none if None.
    """

    def __init__(self, model: Classifier, card: Card, calibrator: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.calibrator = nn.Identity() if calibrator is None else calibrator
        self.card = _standalone(card, model)
        self.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in the order of the probabilities."""
        return tuple(self.card.class_names)

    def train(self, mode: bool = True) -> "Predictor":
        """Nothing: a predictor draws nothing and learns nothing, whatever it is part of."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, x: Any) -> Float[Tensor, "N C"]:
        """Probabilities [N, C] in float32, on the model's device.

        Args:
            x: floats in the valid range [N, *input], a tensor or a NumPy array; where that is 0…1, uint8 pictures
                of 0…255 as well.

        Raises:
            UserError: inputs of another shape or kind, outside the valid range, or not finite; or a model that gives
                no finite probabilities.
        """
        x = self._checked(x)
        if not len(x):
            return torch.empty(0, len(self.card.class_names), device=x.device)
        probabilities: Tensor = self.calibrator(self.model(x).float()).softmax(1)
        if not torch.isfinite(probabilities).all():
            raise UserError("this predictor gives probabilities that are not finite: its weights are none to use.")
        return probabilities

    def in_batches(self, x: Any, size: int = 256) -> Float[Tensor, "N C"]:
        """Probabilities [N, C] on the CPU, from so many inputs at a time.

        Raises:
            UserError: as of a call; a size below 1.
        """
        if size < 1:
            raise UserError(f"size={size}: a batch has 1 input or more.")
        if isinstance(x, Tensor):
            x = self._as_tensor(x)
        if not getattr(x, "ndim", 0):
            return self(x)
        return torch.cat([self(x[start : start + size]).cpu() for start in range(0, max(len(x), 1), size)])

    def _checked(self, x: Any) -> Shaped[Tensor, "N *input"]:
        """Inputs as the model takes them."""
        x = self._as_tensor(x)
        shape = tuple(self.card.input_shape)
        if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape:
            one = " One input alone is x[None]." if tuple(x.shape) == shape else ""
            raise UserError(
                f"inputs have shape {tuple(x.shape)}; this predictor takes [N, {', '.join(map(str, shape))}].{one}"
            )
        like = next((p for p in self.model.parameters() if p.is_floating_point()), torch.empty(0))
        x = as_input(x.to(like.device))
        if not torch.isfinite(x).all():
            raise UserError("inputs are NaN or infinite.")
        holds = torch.finfo(like.dtype)
        low, high = self.card.valid_range or (holds.min, holds.max)
        slack = 1e-6 * max(1.0, abs(low), abs(high))
        if len(x) and (x.min() < low - slack or x.max() > high + slack):
            raise UserError(f"inputs go from {x.min():.4g} to {x.max():.4g}, outside the valid range {low:g}…{high:g}.")
        return x.to(like.dtype)

    def _as_tensor(self, x: Any) -> Tensor:
        """A tensor of floats, or of bytes where they are pictures."""
        if type(x).__module__.partition(".")[0] == "numpy" and hasattr(x, "dtype"):
            try:
                x = torch.tensor(_native(x))
            except (TypeError, ValueError, RuntimeError) as error:
                raise UserError(f"inputs are an array of {x.dtype}: give floats.") from error
        if not isinstance(x, Tensor):
            raise UserError(f"inputs are a {type(x).__name__}: give a tensor or a NumPy array.")
        if x.layout != torch.strided or x.is_meta or x.is_nested:
            raise UserError("inputs are no dense tensor with values: give one.")
        pictures = self.card.valid_range is not None and tuple(self.card.valid_range) == PICTURES
        if not x.is_floating_point() and not (pictures and x.dtype == torch.uint8):
            kind = str(x.dtype).removeprefix("torch.")
            raise UserError(f"inputs are {kind}: give floats{' or uint8 pictures' * pictures}.")
        return x

    def save(self, directory: Path) -> None:
        """Write `model.safetensors` and `predictor.json`, each whole or not at all."""
        directory.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().cpu().clone() for name, value in self.state_dict().items()}
        weights, card = (directory / f"{name}.partial" for name in (WEIGHTS, CARD))
        save_file(state, weights)
        card.write_text(replace(self.card, sha256=_digest(weights)).text(), encoding="utf-8")
        shutil.copymode(card, weights)  # which nobody but the owner might read
        weights.replace(directory / WEIGHTS)
        card.replace(directory / CARD)

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None, trust: bool = False) -> "Predictor":
        """A predictor from its directory, from that of a run, or from the run with an id in MLflow.

        Args:
            path: a directory with `predictor.json`, a run directory with `predictor/`, or `runs:/<id>`.
            model: an instance to load the weights into, for a model that is somebody's own object.
            trust: whether code that the predictor names but poise does not know may be imported.

        Raises:
            UserError: nothing there, a file that cannot be read or was changed, or a model that cannot be rebuilt.
        """
        if model is not None and not isinstance(model, nn.Module):
            raise UserError(f"Predictor.load(model=…) was given a {type(model).__name__}: give a torch.nn.Module.")
        directory = _directory(path)
        card = read_card(directory / CARD)
        state = _state(directory / WEIGHTS, card)
        parts = rebuilt(card, state, model, trust)
        predictor = cls(parts.model, card, parts.calibrator)
        wide = any(value.dtype == torch.float64 for name, value in state.items() if name.startswith("model."))
        predictor.model.to(torch.float64 if wide else torch.float32)
        if isinstance(predictor.calibrator, Calibrator):
            predictor.calibrator.take_sizes(state, "calibrator.")
        own = predictor.state_dict()
        if wrong := misfits(state, own):
            raise UserError(f"{directory / WEIGHTS} does not fit this predictor: {'; '.join(wrong)}.")
        check_finite(str(directory / WEIGHTS), {n: v for n, v in state.items() if n.startswith("model.")}, own)
        predictor.load_state_dict(state)
        return predictor


def _standalone(card: Card, model: Classifier) -> Card:
    """The card, with which the model is made again without the files it was made from."""
    if card.model is None or not model.standalone:
        return card
    parameters = {**card.model["parameters"], **model.standalone}
    return replace(card, model={**card.model, "parameters": parameters})


def _native(x: Any) -> Any:
    """A NumPy array as torch reads it: contiguous, in this machine's byte order, of no more than 64 bits a number."""
    dtype = x.dtype.newbyteorder("=")
    return x.astype("float64" if dtype.char == "g" else dtype, order="C", copy=False)


def _directory(path: str | Path) -> Path:
    if not Path(path).is_dir():
        from poise.located import located  # which asks a tracking server

        path = located(str(path))
    for directory in (Path(path), Path(path) / "predictor"):
        if (directory / CARD).is_file():
            return directory
    if (Path(path) / "config.yaml").is_file() or (Path(path) / "checkpoints").is_dir():
        raise UserError(
            f"{path} holds no predictor yet: its run has not come to its end. The same `poise train` command with "
            f"run_dir={path} goes on with it."
        )
    raise UserError(f"{path} holds no predictor: give a run directory, or its `predictor` folder.")


def _state(path: Path, card: Card) -> State:
    try:
        if _digest(path) != card.sha256:
            raise UserError(f"{path} was changed after it was written (its checksum differs).")
        return load_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # safetensors raises its own, untyped errors
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} holds no weights: {' '.join(str(error).split())}.") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
