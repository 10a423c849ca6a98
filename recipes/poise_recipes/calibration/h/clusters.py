"""Clusters of similar probabilities: k-means in one dimension, on sorted values."""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CLUSTERS = 15
ROUNDS = 25


def cluster_sizes(value: Float[Tensor, " E"]) -> Int[Tensor, " K"]:
    """How many of the sorted values belong to each cluster of k-means, from the lowest to the highest.

    It starts from quantiles, so it draws nothing; a cluster that loses all its values keeps its centre.
    """
    values = value.cpu().numpy()  # a round on so few centres takes torch three times as long
    total = values.cumsum(dtype=np.float64)
    edges = np.append(np.zeros(CLUSTERS, dtype=np.int64), len(values))
    centre = values[((np.arange(CLUSTERS) + 0.5) / CLUSTERS * len(values)).astype(np.int64)].astype(np.float64)
    for _ in range(ROUNDS + 1):
        middle = ((centre[1:] + centre[:-1]) / 2).astype(values.dtype)  # or the search would widen all values
        inner = values.searchsorted(middle, "right")
        if (inner == edges[1:-1]).all():
            break
        edges[1:-1] = inner
        sizes = np.diff(edges)
        sums = np.diff([total[edge - 1] if edge else 0.0 for edge in edges])
        centre = np.where(sizes > 0, sums / sizes.clip(1), centre)
    return torch.tensor([after - before for before, after in pairwise(edges.tolist())], device=value.device)
