"""What a run gives back."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        metrics: every final metric by name, such as `test/accuracy` and `test/temperature_scaling/ece`.
        path: of the run's directory; `Predictor.load(path)` loads what it ships.
    """

    metrics: dict[str, float]
    path: Path
