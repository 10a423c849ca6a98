from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.cluster import KMeans

from poise_recipes.calibration.h.clusters import CLUSTERS, ROUNDS, cluster_sizes


def test_clusters_are_those_of_k_means_from_the_quantiles() -> None:
    value = torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).pow(2).sort()[0]
    start = value[((torch.arange(CLUSTERS) + 0.5) / CLUSTERS * len(value)).long()]
    theirs = KMeans(CLUSTERS, init=start[:, None].numpy(), n_init=1, max_iter=ROUNDS, tol=0.0).fit(
        value[:, None].numpy()
    )
    assert cluster_sizes(value).tolist() == np.bincount(theirs.predict(value[:, None].numpy())).tolist()


@given(arrays.arrays(np.float32, st.integers(1, 40), elements=st.sampled_from([0.0, 0.125, 0.1250001, 0.5, 1.0])))
def test_every_event_is_in_one_cluster(values: Any) -> None:
    sizes = cluster_sizes(torch.from_numpy(values).sort()[0])
    assert len(sizes) == CLUSTERS
    assert sizes.sum() == len(values)
    assert (sizes >= 0).all()
