"""Weights from a file into somebody's model: safetensors, or what PyTorch reads without unpickling."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from poise.config.layers import shown
from poise.config.places import weights_file
from poise.errors import UserError
from poise.models.classifier import Classifier

State = dict[str, Tensor]
Names = dict[str, str]  # of a model's weights: here -> in a file

HEAD, BACKBONE = "head.", "backbone."

NESTED = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
BESIDE = ("calibrator.", "stack.")  # what poise writes beside `model.`
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|class ([\w.]+)")


def load_weights(where: str, model: Classifier, new_head: bool = False) -> None:
    """Load a file's weights into a model, by its names or by those of the network that it wraps.

    The file is safetensors or a state dict that `torch.load(weights_only=True)` reads, also one that stands under
    `state_dict`, `model_state_dict` or `model`, and one whose names all begin with `module.`, `_orig_mod.` or
    `model.`, as those of a Predictor and of a LightningModule do.

    Args:
        where: the file.
        model: whose weights they become, in its own precision.
        new_head: whether the head stays as it is, and the file's is left out.

    Raises:
        UserError: no such file, one that cannot be read or would have to be unpickled, names or shapes that are not
            the model's, or weights that are not finite; a head to be left out that the model does not have.
    """
    said = f"model.checkpoint={where}"
    own: State = model.state_dict()
    if new_head and not any(name.startswith(HEAD) for name in own):
        raise UserError("model.new_head=true: this model has no head of its own that poise knows of: leave it out.")
    readings = list(_readings(_state(said, read(said, weights_file(where)))))
    namings = [names for names in (model.wrapped_names(), {name: name for name in own}) if names]
    whole = list(product(readings, namings))
    headless = [_without_head(state, names) for state, names in whole]
    pairs = headless if new_head else whole
    if fit := _first_fit(pairs, own):
        state, names = fit
        check_finite(said, state, _target(names, own))
        model.load_state_dict({here: state[there] for here, there in names.items()}, strict=False)
        return
    state, names = min(pairs, key=lambda pair: len(set(pair[0]) ^ set(pair[1].values())))
    hint = " model.new_head=true leaves the file's head out." if _first_fit(headless, own) else ""
    raise UserError(f"{said} does not fit the model: {'; '.join(misfits(state, _target(names, own)))}.{hint}")


def _first_fit(pairs: Sequence[tuple[State, Names]], own: State) -> tuple[State, Names] | None:
    """The first state of a file that fits the model under the names it is read by."""
    return next(((state, names) for state, names in pairs if names and not misfits(state, _target(names, own))), None)


def _target(names: Names, own: State) -> State:
    """A model's weights by their names in a file."""
    return {there: own[here] for here, there in names.items()}


def _without_head(state: State, names: Names) -> tuple[State, Names]:
    """A file's weights and the model's names, without those of either's head."""
    kept = {here: there for here, there in names.items() if not here.startswith(HEAD)}
    head = set(names.values()) - set(kept.values())
    ours = any(there.startswith(BACKBONE) for there in kept.values())  # a head of whatever layers stands under HEAD
    left = {name: v for name, v in state.items() if name not in head and not (ours and name.startswith(HEAD))}
    return left, kept


def read(said: str, path: Path) -> Any:
    """What a file of weights holds, on the CPU, nothing of it unpickled.

    Args:
        said: the file, for messages.
        path: the same.

    Raises:
        UserError: it cannot be read, or would have to be unpickled.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{said} cannot be read: {error.strerror}.") from error
    try:
        if path.suffix == ".safetensors" or start[8:] == b"{":  # the length of a header in JSON, and that
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of archives that are refused in the same breath
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise whatever a torn file makes them
        if found := _GLOBAL.search(str(error)):
            raise UserError(_way_out(said, path, found[1] or found[2])) from error
        raise UserError(f"{said} cannot be read: it is cut short or damaged, or holds no weights.") from error


def _way_out(said: str, path: Path, found: str) -> str:
    convert = (
        f"state = torch.load({str(path)!r}, weights_only=False); "
        f"safetensors.torch.save_file(state, {str(path.with_suffix('.safetensors'))!r})"
    )
    return (
        f"{said} holds code ({found}) beside weights, and poise unpickles nothing. Where you trust it, convert it in "
        f"Python: {convert}, where state is a state dict: of a whole module, its state_dict()."
    )


def _state(said: str, content: Any) -> State:
    """The state dict in what a file holds."""
    if isinstance(content, Mapping):
        for name in NESTED:
            if isinstance(content.get(name), Mapping):
                return _state(said, content[name])
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{said} holds no state dict: give weights by name, as model.state_dict() has them.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{said}: {_name(name)} is a {type(value).__name__}, not weights: save model.state_dict() alone, "
                "or under 'state_dict'."
            )
    return dict(content)


def _readings(state: State) -> Iterator[State]:
    """A state as it stands, then without each prefix that all of its names have."""
    yield state
    own = {name: value for name, value in state.items() if not name.startswith(BESIDE)}
    for prefix in PREFIXES:
        if own and all(name.startswith(prefix) for name in own):
            yield from _readings({name.removeprefix(prefix): value for name, value in own.items()})


def misfits(state: State, target: State) -> list[str]:
    """How a state's names, shapes and kinds differ from a model's own, each kind of difference with its first name."""
    missing = [name for name in target if name not in state]
    unexpected = [name for name in state if name not in target]
    shared = [name for name in target if name in state]
    differing = [name for name in shared if _form(state[name]) != _form(target[name])]
    found = []
    if missing:
        found.append(f"{_counted(missing)} of its {len(target)} missing, first {_name(missing[0])}")
    if unexpected:
        found.append(f"{_counted(unexpected)} in the file unexpected, first {_name(unexpected[0])}")
    if differing:
        first = differing[0]
        found.append(
            f"{_counted(differing)} of another shape or kind, first {_name(first)}: {_form(state[first])} in the "
            f"file, {_form(target[first])} in the model"
        )
    return found


def _form(value: Tensor) -> str:
    """A tensor's kind and shape; floats of any precision are of one kind."""
    kind = "float" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")
    layout = "" if value.layout == torch.strided else f"{str(value.layout).removeprefix('torch.')} "
    return f"{'empty ' * value.is_meta}{layout}{kind}{list(value.shape)}"


def check_finite(said: str, state: State, target: State) -> None:
    """Refuse values that are NaN or infinite in the precision of a model.

    Raises:
        UserError: the first name of such values.
    """
    for name, value in state.items():
        if not torch.isfinite(value.to(target[name].dtype)).all():
            raise UserError(f"{said}: {_name(name)} has values that are NaN or infinite.")


def _name(name: object) -> str:
    return shown(repr(name))


def _counted(names: list[str]) -> str:
    return f"{len(names)} weight{'s' * (len(names) > 1)}"
