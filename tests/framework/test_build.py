"""What a config and data cannot be together, said before anything is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poise.build import Built
from poise.config import parse
from poise.data.dataset import Arrays
from poise.errors import UserError
from poise.given import Objects, config_of
from small_runs import network, rows, splits

FOUR = {"devices": 4, "batch_size": 16, "block": 4, "accelerator": "cpu"}


@pytest.mark.parametrize(
    ("small", "said"),
    [
        ({"test": rows(3, 3)}, "test has 3 examples, fewer than there are ranks (4): set trainer.devices=3 or less"),
        ({"shifts": {"dark": rows(2, 3)}}, "shifts.dark has 2 examples, fewer than there are ranks (4)"),
        (
            {"calibration": rows(1, 3)},
            "calibration has 1 example, fewer than there are ranks (4): set trainer.devices=1",
        ),
    ],
)
def test_splits_smaller_than_the_ranks_are_refused(small: dict[str, Arrays], said: str) -> None:
    groups: dict[str, Any] = {"trainer": FOUR, "tracking": "none", "calibration": "none"}
    built = Built(*config_of((), splits(**small), network(), groups))
    with pytest.raises(UserError) as raised:
        built.admit()
    assert str(raised.value).startswith(said)


def test_a_split_as_large_as_the_ranks_will_do() -> None:
    built = Built(*config_of((), splits(calibration=rows(4, 3)), network(), {"trainer": FOUR, "tracking": "none"}))
    built.admit()


def test_an_empty_split_is_said_to_be_empty_not_too_small_for_the_ranks(tmp_path: Path) -> None:
    parts = {"train": 48, "val": 12, "calibration": 0, "test": 12}
    arrays = {f"x_{name}": np.zeros((count, 4), np.float32) for name, count in parts.items()}
    labels = {f"y_{name}": np.arange(count) % 3 for name, count in parts.items()}
    np.savez(tmp_path / "data.npz", **arrays, **labels)
    given = ["data=npz", f"data.path={tmp_path / 'data.npz'}", "model=mlp", "calibration=none", "trainer.devices=4"]
    with pytest.raises(UserError, match="calibration is empty: every split needs examples"):
        Built(parse(given), Objects())
