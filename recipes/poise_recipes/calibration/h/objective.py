"""The objective of h-calibration: how far mean probability and frequency are apart among similar probabilities."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from poise.blocks import block_size
from poise_recipes.calibration.h.clusters import CLUSTERS, cluster_sizes

PIECE = 2**18  # events whose sums are taken at a time


def h_loss(
    probability: Float[Tensor, " E"], occurred: Bool[Tensor, " E"], window: int, tolerance: float = 0.0
) -> tuple[Float[Tensor, ""], Float[Tensor, " E"]]:
    """How far mean probability and frequency are apart in windows of events, each cluster counting alike.

    An event is an example and a class: its probability, taken in single precision, and whether it occurred.
    Events are sorted by probability. Windows are centred on each event and hold `window` events, one more if
    that is even; at the ends what is missing counts as zero. A window counts by what it is apart beyond the
    tolerance, in 0…1. Gives the loss, in 0…1, and its derivative with respect to each probability; the order and
    the clusters, of k-means on the probabilities, are taken as constants.
    """
    key = _sorted(probability)
    sizes = cluster_sizes(_value(key))
    ends, weight = sizes.cumsum(0), (CLUSTERS * sizes.double()).reciprocal()
    half, piece = window // 2, block_size(key.device, PIECE)
    loss, sign = weight.new_zeros(()), torch.empty_like(key, dtype=torch.int8)

    def gap(part: slice) -> Tensor:
        return _value(key[part]).double() - occurred.index_select(0, _event(key[part])).double()

    def pull(part: slice) -> Tensor:
        return _spread(weight, ends, part) * sign[part]

    for part, mean in _windowed(gap, len(key), half, piece):
        excess = mean.abs() - tolerance
        sign[part] = torch.where(excess > 0, mean.sign(), 0.0).to(torch.int8)
        loss += _spread(weight, ends, part) @ excess.clamp(min=0)
    slope = torch.empty_like(probability)
    for part, mean in _windowed(pull, len(key), half, piece):
        slope.scatter_(0, _event(key[part]), mean.to(slope.dtype))
    return loss, slope


def _sorted(probability: Float[Tensor, " E"]) -> Int64[Tensor, " E"]:
    """Probabilities from the lowest to the highest, each with the event it is of: keys for `_value` and `_event`.

    The bits of a positive number in single precision are ordered as it is. With the event's number below them
    they are sorted as integers, which takes a tenth of the time of a sort with indices, and ties keep their order.
    """
    key = probability.float().view(torch.int32).long().bitwise_left_shift_(32)
    key += torch.arange(len(key), device=key.device)
    if key.device.type != "cpu":
        return key.sort().values
    key.numpy().sort()  # in place; torch would find indices too
    return key


def _value(key: Int64[Tensor, " E"]) -> Float[Tensor, " E"]:
    return (key >> 32).int().view(torch.float32)


def _event(key: Int64[Tensor, " E"]) -> Int64[Tensor, " E"]:
    return key & 0xFFFFFFFF


def _spread(weight: Float[Tensor, " K"], ends: Int[Tensor, " K"], part: slice) -> Float[Tensor, " E"]:
    """Each event's weight, that of its cluster, where clusters end after these many events."""
    inside = ends.clamp(part.start, part.stop).diff(prepend=ends.new_tensor([part.start]))
    return weight.repeat_interleave(inside)


def _windowed(of: Callable[[slice], Tensor], size: int, half: int, piece: int) -> Iterator[tuple[slice, Tensor]]:
    """Means of windows with `half` values to either side, piece by piece; what is missing at the ends is zero."""
    width = 2 * half + 1
    for start in range(0, size, piece):
        stop = min(start + piece, size)
        low, high = start - half, stop + half
        values = of(slice(max(low, 0), min(high, size)))
        total = F.pad(values, (1 + max(-low, 0), max(high - size, 0))).cumsum(0)
        yield slice(start, stop), (total[width:] - total[:-width]) / width
