"""Executes poise's shape annotations: every call of an annotated function is checked while tests run."""

import os

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

PACKAGES = ("poise", "poise_recipes")
SWITCH = "POISE_SHAPE_CHECKS"

# An int where a float is annotated is right, as Python's typing has it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install() -> None:
    """Check poise's modules from their import on; POISE_SHAPE_CHECKS=0 leaves them alone (benchmarks)."""
    if os.environ.get(SWITCH, "1") != "0":
        install_import_hook(list(PACKAGES), "shape_checks.check")
