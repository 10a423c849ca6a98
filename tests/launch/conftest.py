"""The checkout that every test of `launch/` sets up."""

from pathlib import Path

import pytest

from stub_project import Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One of stubs that has never been set up."""
    return make_project(tmp_path)
