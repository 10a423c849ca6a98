"""One arm of a claim, trained: poise's own run in a directory that is thrown away."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from claims.subsets import splits_of
from poise import checkpoint, fit, saving
from poise.attacks.threat import Threat
from poise.data.dataset import Splits
from poise.data.wrappers.long_tail import LongTail
from poise.errors import UserError
from poise.history import Curves, History
from poise.models.classifier import Classifier
from poise.predictor import WEIGHTS, Predictor
from poise.run_directory import RunDirectory


@dataclass(frozen=True)
class Setting:
    """Data and sizes.

    Args:
        data: mnist, cifar10 or digits.
        train: examples to train on, before a long tail is cut.
        epochs: of training.
        eps: radius of the linf threat, in training and evaluation.
        model: a name, or one of `claims.networks`.
        width: its channels, of the first block.
        warm: epochs of plain training before, from which all arms of a seed start: attacked from the first step, small
            networks stay at the same answer to everything for long.
        lr: of AdamW, with a cosine schedule.
        batch_size: of a step.
        long_tail: how many times as many examples the first class has as the last; None is all alike.
    """

    data: str
    train: int
    epochs: int
    eps: float
    model: str = "small_cnn"
    width: int = 16
    warm: int = 5
    lr: float = 2e-3
    batch_size: int = 64
    long_tail: float | None = None


@dataclass(frozen=True)
class Arm:
    """What is trained.

    Args:
        name: in tables.
        recipe: as `poise.fit` takes it; empty is plain training.
    """

    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What a run came to.

    Args:
        setting: of the run.
        seed: of data, weights and draws.
        splits: the data.
        threat: what an attacker may do.
        best: the model of the epoch that validation chose, which poise ships.
        last: the model after the last epoch.
        curves: what was noted while it trained, by name and step.
        said: what the run warned of.
    """

    setting: Setting
    seed: int
    splits: Splits
    threat: Threat
    best: Classifier
    last: Classifier
    curves: Curves
    said: str


@contextmanager
def trained(setting: Setting, arm: Arm, seed: int) -> Iterator[Trained]:
    """The arm, trained once."""
    splits = splits_of(setting.data, setting.train, seed)
    if setting.long_tail is not None:
        splits = LongTail(setting.long_tail).wrap(splits, seed)
    with tempfile.TemporaryDirectory(prefix="claim-") as folder:
        start, directory = (RunDirectory(Path(folder, name)) for name in ("start", "run"))
        train(setting, (), splits, seed, start, epochs=setting.warm)
        weights = start.predictor / WEIGHTS
        train(setting, arm.recipe or (), splits, seed, directory, epochs=setting.epochs, checkpoint=str(weights))
        best = Predictor.load(directory.path, trust=True).model
        yield Trained(
            setting,
            seed,
            splits,
            Threat("linf", setting.eps),
            best,
            _last(best, directory),
            History(directory.curves).read(),
            directory.log.read_text(encoding="utf-8"),
        )


def train(
    setting: Setting, recipe: Any, splits: Splits, seed: int, directory: RunDirectory, epochs: int, **start: str
) -> None:
    """One run of poise in a directory.

    Args:
        setting: of the network and its optimiser.
        recipe: as `poise.fit` takes it; empty is plain training.
        splits: the data.
        seed: of weights and draws.
        directory: of the run.
        epochs: of training.
        start: further parameters of the model, such as `checkpoint`.
    """
    fit(
        recipe,
        splits,
        {"name": setting.model, "width": setting.width, **start},
        optimizer={"name": "adamw", "lr": setting.lr, "weight_decay": 5e-4},
        trainer={
            "max_epochs": epochs,
            "batch_size": setting.batch_size,
            "accelerator": "cpu",
            "progress": False,
        },
        threat={"name": "linf", "eps": setting.eps},
        calibration="none",
        evaluation="clean",
        tracking="none",
        seed=seed,
        run_dir=str(directory.path),
    )


def _last(best: Classifier, directory: RunDirectory) -> Classifier:
    """The model as its newest checkpoint has it."""
    newest = checkpoint.newest(directory.checkpoints)
    if newest is None:
        raise UserError(f"{directory.path} holds no whole checkpoint")
    state = load_file(newest.directory / saving.WEIGHTS)
    last = copy.deepcopy(best)
    last.load_state_dict({n.removeprefix("model."): v for n, v in state.items() if n.startswith("model.")})
    return last
