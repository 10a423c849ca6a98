"""What an evaluator is given, and what it gives."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.data.dataset import Arrays, Splits
from poise.distributed import Ranks
from poise.models.classifier import Classifier
from poise.progress import Progress, no_progress
from poise.scores import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        batch_size: examples of one pass on each rank; changes no result.
        progress: (title, total) -> a context that gives a function to call with the number of examples done.
        kept: a directory where long work may keep what it has, to go on from if it is killed; None where there is none.
    """

    model: Classifier
    splits: Splits
    threat: Threat
    calibrators: Mapping[str, Calibrator] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=Ranks)
    seed: int = 0
    batch_size: int = 256
    progress: Progress = no_progress
    kept: Path | None = None

    def tests(self) -> Iterator[tuple[str, Arrays]]:
        """The splits to report on, by name: test, then the shifts."""
        yield "test", self.splits.test
        yield from self.splits.shifts.items()

    def columns(self, prefix: str, seen: Predictions) -> Iterator[tuple[str, Predictions]]:
        """Predictions before calibration under `prefix`, then after each calibrator under `prefix/<name>`."""
        yield prefix, seen
        for name, calibrator in self.calibrators.items():
            yield f"{prefix}/{name}", replace(seen, logits=calibrator(seen.logits))


@runtime_checkable
class Drawing(Protocol):
    """What knows how to draw itself. Holds numbers only, so ranks that draw nothing import nothing for it."""

    def draw(self) -> "Figure":
        """A figure of its own, which pyplot does not know of."""
        ...


@dataclass(frozen=True)
class Findings:
    """What evaluators found.

    Args:
        metrics: flat, by name, such as `test/accuracy` and `test/temperature_scaling/ece`.
        figures: by name, such as `test-reliability`.
        tables: beside those that metrics make, by name, such as `test-attacks`.
        notes: sentences on what was done.
        doubts: what to be warned of, without a full stop.
        times: by name, what the clock said: of two runs that are alike no two are.
        meanings: what the names in tables mean, in a line each, by name.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Drawing] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    times: dict[str, float] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, float]:
        """Metrics and times."""
        return self.metrics | self.times

    @classmethod
    def merged(cls, parts: Iterable["Findings"]) -> "Findings":
        """All parts in one; of two that name the same, the later counts."""
        whole = cls()
        for part in parts:
            whole.metrics.update(part.metrics)
            whole.figures.update(part.figures)
            whole.tables.update(part.tables)
            whole.times.update(part.times)
            whole.meanings.update(part.meanings)
            whole = replace(whole, notes=whole.notes + part.notes, doubts=whole.doubts + part.doubts)
        return whole


class Evaluator:
    """Takes a trained model and data, gives findings. Constructor arguments are kept under their own names."""

    def check(self, splits: Splits) -> None:
        """Refuse data that cannot be looked at so, before anything is trained.

        Raises:
            UserError: why; what it leads to and the way out are said by who asks.
        """

    def evaluate(self, subject: Subject) -> Findings:
        """What is found, the same on every rank."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate.")
