"""What an optimiser remembers under ZeRO, whole and by parameter: PyTorch's own form, which any strategy takes up.

DeepSpeed's own shards are neither written nor read: they can be taken up by as many ranks at the same stage only, and
reading them runs what is in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn


@dataclass(frozen=True)
class Piece:
    """What this rank's optimiser holds of a parameter laid out flat.

    Args:
        flat: the float32 tensor [F] that the optimiser works on, in which pieces of many parameters lie.
        in_flat: where the piece begins there.
        in_parameter: where it begins in the parameter.
        count: its elements, 0 where other ranks hold the parameter.
    """

    flat: Tensor
    in_flat: int = 0
    in_parameter: int = 0
    count: int = 0

    def of_flat(self, values: Shaped[Tensor, " F"]) -> Shaped[Tensor, " count"]:
        """The piece, of values that go with the flat tensor's."""
        return values.narrow(0, self.in_flat, self.count)

    def of_parameter(self, values: Shaped[Tensor, "..."]) -> Shaped[Tensor, " count"]:
        """The piece, of values that go with the parameter's."""
        return values.flatten().narrow(0, self.in_parameter, self.count)


def pieces(zero: Any) -> dict[nn.Parameter, Piece]:
    """Where each trained parameter lies on this rank.

    Args:
        zero: DeepSpeed's optimiser, of stage 1, 2 or 3.
    """
    return _of_own_parameters(zero) if hasattr(zero, "fp32_partitioned_groups_flat") else _of_whole_groups(zero)


def _of_whole_groups(zero: Any) -> dict[nn.Parameter, Piece]:
    """Stages 1 and 2 lay a group's parameters end to end and cut the whole between ranks."""
    found = {}
    for flat, parameters in zip(zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True):
        for parameter in parameters:
            held = parameter._hp_mapping
            if held is None:
                found[parameter] = Piece(flat)
            else:
                here, there = held.hp_fragment_address, held.lp_fragment_address
                found[parameter] = Piece(flat, here.start, there.start, here.numel)
    return found


def _of_own_parameters(zero: Any) -> dict[nn.Parameter, Piece]:
    """Stage 3 cuts each parameter between ranks, equally: the last ones may hold less, or nothing but padding."""
    found = {}
    for flat, parameters in zip(zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True):
        in_flat = 0
        for parameter in parameters:
            share, total = parameter.partition_numel(), parameter.ds_numel
            first = min(dist.get_rank() * share, total)
            found[parameter] = Piece(flat, in_flat, first, min(share, total - first))
            in_flat += share
    return found


def gathered(zero: Any, groups: Sequence[Sequence[nn.Parameter]], device: torch.device) -> dict[str, Any]:
    """The optimiser's state as its `state_dict()` has it where nothing is shared out. To be called on all ranks.

    Rank 0 gets it, on the CPU, the others nothing. Every tensor travels alone: a device holds no more than the
    largest parameter beside what it trains with, rank 0's host all of them.

    Args:
        zero: DeepSpeed's optimiser.
        groups: parameters as they were given to PyTorch's optimiser.
        device: that ranks send from.
    """
    held, states = pieces(zero), dict[int, Any]()
    for number, parameter in enumerate(chain.from_iterable(groups)):
        piece = held[parameter]
        remembered = zero.optimizer.state.get(piece.flat, {})
        state = {key: _whole(value, piece, parameter, device) for key, value in remembered.items()}
        states |= {number: state} if state else {}
    return {"state": states, "param_groups": _numbered(zero, groups)} if dist.get_rank() == 0 else {}


def _whole(value: Any, piece: Piece, parameter: nn.Parameter, device: torch.device) -> Any:
    """A parameter's own values of what goes with the flat tensor; what does not, such as a count of steps, as it is."""
    if not isinstance(value, Tensor):
        return value
    if value.shape != piece.flat.shape:
        return value.detach().clone().cpu()
    shape = _shape(parameter)
    whole = torch.zeros(shape.numel(), dtype=value.dtype, device=device)
    piece.of_parameter(whole).copy_(piece.of_flat(value))
    dist.reduce(whole, 0)
    return whole.view(shape).cpu() if dist.get_rank() == 0 else None


def _numbered(zero: Any, groups: Sequence[Sequence[nn.Parameter]]) -> list[dict[str, Any]]:
    """Each group's settings, its parameters by number, as PyTorch writes them."""
    numbers = iter(range(sum(map(len, groups))))
    return [
        {**group, "params": [next(numbers) for _ in parameters]}
        for group, parameters in zip(zero.optimizer.param_groups, groups, strict=True)
    ]


def take_up(zero: Any, groups: Sequence[Sequence[nn.Parameter]], saved: Mapping[str, Any]) -> None:
    """Go on with an optimiser's state and with the weights that stand in the module, on this rank.

    Args:
        zero: DeepSpeed's optimiser, which has not stepped yet.
        groups: parameters as they were given to PyTorch's optimiser.
        saved: of `gathered`, or of the `state_dict()` of such an optimiser under DDP.
    """
    zero.refresh_fp32_params()
    held = pieces(zero)
    for number, parameter in enumerate(chain.from_iterable(groups)):
        piece = held[parameter]
        own = zero.optimizer.state[piece.flat]
        for key, value in saved["state"].get(number, {}).items():
            if isinstance(value, Tensor) and value.shape == _shape(parameter):
                if key not in own:
                    own[key] = torch.zeros_like(piece.flat, dtype=value.dtype, requires_grad=False)
                piece.of_flat(own[key]).copy_(piece.of_parameter(value))
            elif key not in own:
                own[key] = value.clone() if isinstance(value, Tensor) else value
    for group, theirs in zip(zero.optimizer.param_groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in theirs.items() if key != "params"})


def _shape(parameter: nn.Parameter) -> torch.Size:
    """A parameter's shape where it is whole."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))
