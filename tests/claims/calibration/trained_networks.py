"""A network trained on few pictures, and what it says of others: what claims on calibration have in common."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from claims.subsets import TEST, splits_of
from claims.training import Arm, Setting, train
from poise.batch import Predictions
from poise.data.dataset import Splits
from poise.data.wrappers.corruptions import Corruptions
from poise.data.wrappers.label_noise import LabelNoise
from poise.distributed import Ranks
from poise.metrics.summary import summarised
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.predictor import Predictor
from poise.run_directory import RunDirectory
from poise_recipes import TemperatureScaling


@dataclass(frozen=True)
class Network(Setting):
    """A setting of its own name.

    Args:
        source: the data set: `data` names the setting.
        rate: share of the labels that are wrong, in every split.
        held_out: examples to fit calibrators to.
    """

    source: str = "mnist"
    rate: float = 0.0
    held_out: int = 1000


@dataclass(frozen=True)
class Shipped:
    """What came of a training: the model of the epoch that validation chose, the data, and what it says of them."""

    setting: Network
    model: Classifier
    splits: Splits
    calibration: Predictions
    test: Predictions


@contextmanager
def shipped(setting: Network, arm: Arm, seed: int, tested: int = TEST) -> Iterator[Shipped]:
    """The arm, trained once, and what it says of so many test examples."""
    splits = splits_of(setting.source, setting.train, seed, setting.held_out, tested)
    splits = _noisy(splits, setting.rate, seed)
    with tempfile.TemporaryDirectory(prefix="claim-") as folder:
        directory = RunDirectory(Path(folder))
        train(setting, arm.recipe or (), splits, seed, directory, epochs=setting.epochs)
        model = Predictor.load(directory.path, trust=True).model
        told = (predict(model, data, Ranks()) for data in (splits.calibration, splits.test))
        yield Shipped(setting, model, splits, *told)


def _noisy(splits: Splits, rate: float, seed: int) -> Splits:
    """Wrong labels in every split: the classes themselves overlap, and no label can be told from another."""
    if not rate:
        return splits
    splits = LabelNoise(rate, splits=("train", "val", "calibration")).wrap(splits, seed)
    test = LabelNoise(rate, splits=("val",)).wrap(replace(splits, val=splits.test), seed + 1000).val
    return replace(splits, test=test)


def scaled(run: Shipped, told: Predictions) -> Predictions:
    """Predictions after temperature scaling, which was fitted to the held-out split."""
    calibrator = TemperatureScaling(lowest=1e-4, highest=1e4).fit(run.calibration)
    return replace(told, logits=calibrator(told.logits))


def noisy_pictures(run: Shipped, severity: int) -> Predictions:
    """What the model says of the test examples under Gaussian noise of a severity in 1…5."""
    (data,) = Corruptions(kinds=("gaussian_noise",), severity=(severity,)).wrap(run.splits, 0).shifts.values()
    return predict(run.model, data, Ranks())


def scores(prefix: str, told: Predictions) -> dict[str, float]:
    """NLL in nats, and in points ECE, accuracy and mean confidence less accuracy."""
    found = summarised(told.logits, told.label).scores
    gap = found["confidence"] - found["accuracy"]
    return {
        f"{prefix}nll": found["nll"],
        f"{prefix}ece": 100 * found["ece"],
        f"{prefix}accuracy": 100 * found["accuracy"],
        f"{prefix}gap": 100 * gap,
    }
