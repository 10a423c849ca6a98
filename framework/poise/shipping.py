"""The weights that are validated and shipped, where they are not the ones being trained."""

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from poise.distributed import Ranks
from poise.stack import RecipeStack


def statistics(model: nn.Module) -> dict[str, Shaped[Tensor, "..."]]:
    """The running statistics of batch norm layers, by name in the state_dict: each rank's own."""
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name in names
        if (buffer := getattr(module, name)) is not None
    }


def shipped_state(model: nn.Module, stack: RecipeStack, ranks: Ranks) -> dict[str, Shaped[Tensor, "..."]] | None:
    """What is validated and shipped in place of the model's own state, by name in it; None where nothing is.

    A recipe's evaluation weights where one gives them, and the batch statistics averaged over ranks; call on all
    ranks. Under ZeRO-3 the model's own weights are not there to be given along.
    """
    given = stack.eval_weights()
    own = statistics(model)
    if given is None and (not own or ranks.size == 1):
        return None
    state = dict(own if given is None else given)
    averaged = [name for name in own if state[name].is_floating_point()]
    if ranks.size > 1 and averaged:
        flat = ranks.mean(torch.cat([state[name].flatten() for name in averaged]))
        parts = flat.split([state[name].numel() for name in averaged])
        state |= {name: part.view_as(state[name]) for name, part in zip(averaged, parts, strict=True)}
    return state
