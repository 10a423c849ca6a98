"""What calibrators that were fitted to pictures as they are come to on noisy ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

from claims.calibration.ten_scores import recalibrated
from claims.calibration.trained_networks import Network, noisy_pictures, scores, shipped
from claims.claim import Claim, Effect
from claims.proving import main
from claims.training import Arm
from poise.batch import Predictions

SOURCE = (
    "Ovadia et al., 2019, arXiv 1906.02530, abstract: calibration fitted to data as they are falls short under shift; "
    "the direction alone is judged"
)
CALIBRATORS = ("temperature_scaling", "h_calibration", "vector_scaling")


@dataclass(frozen=True)
class Told:
    """What a network says of pictures.

    Args:
        held_out: to fit to, as they are.
        clean: test pictures, as they are.
        noisy: the same test pictures under noise.
    """

    held_out: Predictions
    clean: Predictions
    noisy: Predictions


@lru_cache(maxsize=1)
def network(setting: Network, seed: int) -> Told:
    """What one network says: kept, for all arms of a seed calibrate the same."""
    with shipped(setting, Arm("plain"), seed) as run:
        return Told(run.calibration, run.test, noisy_pictures(run, severity=5))


@contextmanager
def told(setting: Network, arm: Arm, seed: int) -> Iterator[Told]:
    """The same after one calibrator, or none."""
    said = network(setting, seed)
    clean, noisy = (
        replace(part, logits=recalibrated(arm, said.held_out, part.logits)) for part in (said.clean, said.noisy)
    )
    yield replace(said, clean=clean, noisy=noisy)


def measure(said: Told) -> dict[str, float]:
    """On 1,000 test pictures, as they are and under Gaussian noise of severity 5 (`noisy_`), after a fit to 2,000
    held-out ones as they are: NLL in nats, the others in points; `gap` is mean confidence less accuracy. All arms of a
    seed calibrate one network.
    """
    return {**scores("", said.clean), **scores("noisy_", said.noisy)}


def falls_short(calibrator: str) -> Effect:
    """How much larger a calibrator's error is under noise."""
    return Effect(
        f"ECE of {calibrator} on noisy pictures above that on pictures as they are, points",
        lambda arms: arms[calibrator]["noisy_ece"] - arms[calibrator]["ece"],
        {},
        SOURCE,
    )


CLAIM = Claim(
    name="shifted_confidence",
    says="Calibrators that were fitted to pictures as they are leave networks miscalibrated on noisy ones.",
    settings=(
        Network("cifar10", 2000, 30, eps=0, model="small_bn_cnn", width=16, warm=0, source="cifar10", held_out=2000),
    ),
    arms=(Arm("uncalibrated"), *(Arm(name, {"name": name}) for name in CALIBRATORS)),
    measure=measure,
    effects=tuple(falls_short(name) for name in CALIBRATORS),
    minutes=10,
    seeds=5,
    run=told,
)

if __name__ == "__main__":
    main(CLAIM)
