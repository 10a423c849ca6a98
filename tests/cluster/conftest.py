"""The cluster that the tests of this folder share."""

from collections.abc import Iterator

import pytest

from cluster.slurm import Cluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes under Slurm, started at first use and kept for the whole session."""
    if reason := why_not():
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster
