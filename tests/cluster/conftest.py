"""The cluster that the tests of this folder share."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from cluster.slurm import Cluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes under Slurm, started at first use and kept for the whole session."""
    if reason := why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as running:
        try:
            cluster = running.enter_context(Cluster())
        except AssertionError as error:
            if "CI" in os.environ:
                raise
            pytest.skip(f"Slurm is here and does not run: {error}")
        yield cluster
