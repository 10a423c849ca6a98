"""What an attack is given, looked at once before it runs: most mistakes would pass for robustness."""

from itertools import chain
from numbers import Integral

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from poise.attacks.threat import Threat
from poise.errors import UserError


def check_kinds(model: object, x: object, y: object, index: object = None) -> None:
    """Refuses what has no place in an attack, before anything is asked of it.

    A function is refused though it could be called: of a network inside it nobody knows, so it would be attacked in
    training mode, and its statistics would move.

    Args:
        model: a Module.
        x: a tensor of one dimension or more.
        y: likewise.
        index: likewise; or None.

    Raises:
        UserError: one of them is something else, such as an array of NumPy.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model is of type {type(model).__name__}, not a torch.nn.Module: write what it does as the forward of "
            "one, with the network inside, so that the attack can put it into evaluation mode and back."
        )
    for name, values in (("x", x), ("y", y), ("index", index)):
        if values is None and name == "index":
            continue
        if not isinstance(values, Tensor):
            raise UserError(f"{name} is of type {type(values).__name__}, not a tensor: give torch.as_tensor({name}).")
        if not values.ndim:
            raise UserError(f"{name} is a single number: give a tensor with a row for each example.")


def check_given(
    model: nn.Module,
    threat: Threat,
    x: Float[Tensor, "B *input"],
    y: Shaped[Tensor, "..."],
    seed: object,
    index: Shaped[Tensor, "..."],
) -> int:
    """Refuses what an attack cannot work on, and counts the classes: by one pass of two examples on the model's device.

    Inputs that are NaN are let through: the model is wrong on them.

    Args:
        model: in the attack's mode.
        threat: what is allowed.
        x: in float32 or better, not of inference mode.
        y: labels, as they came.
        seed: of all draws.
        index: positions, as they came.

    Raises:
        UserError: eps that allows any change; x outside the valid range; y or index that are no whole numbers, one for
            each input; labels outside 0…C-1; a seed beyond 64 bits; a model made in inference mode, of another
            precision, or that gives anything but logits [B, C] of two classes or more.
    """
    threat.check(x)
    threat.check_values(x)
    _check_whole("y", y, len(x), "; of one-hot labels take y.argmax(1)")
    _check_whole("index", index, len(x))
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise UserError(f"seed={seed!r} is not a whole number of 64 bits: give one such as 0.")
    num_classes = _classes_of(model, x[:2])
    _check_labels(y.long(), num_classes)
    return num_classes


def _check_whole(name: str, values: Tensor, count: int, way_out: str = "") -> None:
    if values.is_floating_point() or values.shape != (count,):
        raise UserError(
            f"{name} is {values.dtype} of shape {[*values.shape]}: give whole numbers of shape [{count}], one for each "
            f"input{way_out}."
        )


def _check_labels(y: Tensor, num_classes: int) -> None:
    lowest, highest = (int(end) for end in y.aminmax()) if len(y) else (0, 0)
    if lowest < 0 or highest >= num_classes:
        raise UserError(
            f"labels y go from {lowest} to {highest}, outside 0…{num_classes - 1}: the model has {num_classes} classes."
        )


def _classes_of(model: nn.Module, x: Tensor) -> int:
    if any(tensor.is_inference() for tensor in chain(model.parameters(), model.buffers())):
        raise UserError(
            "the model was made or loaded under torch.inference_mode(), so there are no gradients through it: make it "
            "outside, or under torch.no_grad()."
        )
    logits = _answer(model, x.to(next((p.device for p in model.parameters()), x.device)))
    if not isinstance(logits, Tensor):
        raise UserError(f"the model gives a {type(logits).__name__}: let it return the logits [B, C] alone.")
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise UserError(
            f"the model gives {[*logits.shape]} for {len(x)} inputs: let it return logits [B, C] of two classes or "
            "more; a single logit z [B] becomes torch.stack([torch.zeros_like(z), z], 1)."
        )
    return logits.shape[1]


@torch.no_grad()
def _answer(model: nn.Module, x: Tensor) -> object:
    """What the model gives. Whether it casts its inputs only a pass can tell."""
    try:
        return model(x)
    except RuntimeError as error:
        other = next((p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype != x.dtype), None)
        if other is None:
            raise
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"the model has weights of {other} and fails on x of {x.dtype} ({reason}): attacks keep x in float32 or "
            "better, so give x.float() to a model in float32, and of another precision let the model cast its inputs."
        ) from error
