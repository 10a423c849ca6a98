"""Runs small enough for tests: data of a hundred examples, a model with all that makes resuming hard."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poise import fit
from poise.data.dataset import Arrays, Splits
from poise.result import Result

CLASSES, GROUPS = 3, 2


def rows(count: int, seed: int) -> Arrays:
    """Pictures of one channel and 8x8 pixels whose class and group can be learnt."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    group = torch.randint(GROUPS, (count,), generator=generator)
    x = 0.5 * torch.rand(count, 1, 8, 8, generator=generator)
    x[torch.arange(count), 0, label] += 0.3
    x[torch.arange(count), 0, 6, group] += 0.2
    return Arrays(x, label, group)


def splits(**changes: Any) -> Splits:
    """Data with groups: 68 examples to train on, 24 in each other split."""
    parts = {"train": rows(68, 0), "val": rows(24, 1), "calibration": rows(24, 2), "test": rows(24, 3)}
    parts |= {name: changes.pop(name) for name in list(parts) if name in changes}
    return Splits(**parts, num_classes=CLASSES, class_names=("a", "b", "c"), group_names=("k", "l"), **changes)


class Network(nn.Module):
    """Batch norm and dropout: what a run has to remember of each rank, and what it draws by itself."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()
        )
        self.classify = nn.Linear(9 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


def network() -> Network:
    """The same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Network()


def small_fit(run_dir: Path | str, recipe: Any = (), trainer: Any = None, **groups: Any) -> Result:
    """`poise.fit` on the small data, four steps of 16 examples an epoch, three epochs, on the CPU; not tracked."""
    sizes = {"max_epochs": 3, "batch_size": 16, "progress": False, "accelerator": "cpu", **(trainer or {})}
    settings = {"data": splits(), "model": network(), "evaluation": "clean", "tracking": "none", **groups}
    return fit(recipe, trainer=sizes, run_dir=str(run_dir), **settings)
