"""What an evaluator is given, and what it gives."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.data.dataset import Arrays, Splits
from poise.distributed import Ranks
from poise.models.classifier import Classifier

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_progress(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    return nullcontext(lambda done: None)


@dataclass(frozen=True)
class Subject:
    """A trained model under evaluation.

    Args:
        model: inputs to logits, uncalibrated.
        calibrators: fitted, by name.
        splits: the data; evaluators look at `test` and the named shifts.
        threat: what an attacker may do.
        ranks: of the run; evaluators are called on all of them and give the same numbers on each.
        seed: of the run.
        progress: (title, total) -> a context that gives a function to call with the number of examples done.
    """

    model: Classifier
    splits: Splits
    threat: Threat
    calibrators: Mapping[str, Calibrator] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=Ranks)
    seed: int = 0
    progress: Progress = no_progress

    def tests(self) -> Iterator[tuple[str, Arrays]]:
        """The splits to report on, by name: test, then the shifts."""
        yield "test", self.splits.test
        yield from self.splits.shifts.items()

    def columns(self, prefix: str, seen: Predictions) -> Iterator[tuple[str, Predictions]]:
        """Predictions before calibration under `prefix`, then after each calibrator under `prefix/<name>`."""
        yield prefix, seen
        for name, calibrator in self.calibrators.items():
            yield f"{prefix}/{name}", replace(seen, logits=calibrator(seen.logits))


class Evaluator:
    """Takes a trained predictor and data, gives numbers. Constructor arguments are kept under their own names."""

    def evaluate(self, subject: Subject) -> dict[str, float]:
        """Flat metrics by name, such as `test/accuracy` and `test/temperature_scaling/ece`."""
        raise NotImplementedError
