"""Adversarial training of few examples for long: as it overfits, energies of clean and attacked inputs part."""

from claims.claim import Claim, Effect
from claims.measures import energy_difference, robust
from claims.proving import main
from claims.training import Arm, Setting, Trained

SOURCE = (
    "Mirza et al., 2024, arXiv 2407.06315: robust overfitting goes with a sharp divergence between energies of clean "
    "and attacked training inputs, shown as curves"
)
OVERFITTING = "Rice et al., 2020, arXiv 2002.11569, and the logs in csdongxian/AWP: 52.79 at best, 43.75 at last"

NETWORK = "claims.networks:one_layer"  # which overfits to few examples within minutes, where small_cnn does not


def measure(run: Trained) -> dict[str, float]:
    """Of the epoch that validation chose and of the last: robust accuracy on 1,000 test examples under PGD-50 with 2
    restarts, and the mean of |E(x) - E(x')| in nats over the training examples under PGD-20.
    """
    numbers = {}
    for name, model in (("best", run.best), ("last", run.last)):
        numbers[f"robust_{name}"] = robust(model, run.splits.test, run.threat)
        numbers[f"apart_{name}"] = energy_difference(model, run.splits.train, run.threat)
    return numbers


CLAIM = Claim(
    name="energies_part",
    says="Where adversarial training overfits, the energies of clean and of attacked training inputs move apart.",
    settings=(
        Setting("mnist", train=500, epochs=30, eps=0.1, model=NETWORK, width=32, warm=3),
        Setting("cifar10", train=1500, epochs=25, eps=4 / 255, model=NETWORK, warm=3),
    ),
    arms=(Arm("pgd_at", {"name": "pgd_at", "pgd": {"steps": 5}}),),
    measure=measure,
    effects=(
        Effect(
            "robust accuracy of the best epoch above that of the last, points",
            lambda arms: arms["pgd_at"]["robust_best"] - arms["pgd_at"]["robust_last"],
            {"cifar10": 9.04},
            OVERFITTING,
        ),
        Effect(
            "how far energies are apart after the last epoch above how far after the best, nats",
            lambda arms: arms["pgd_at"]["apart_last"] - arms["pgd_at"]["apart_best"],
            {},
            SOURCE,
        ),
    ),
    minutes=12,
)

if __name__ == "__main__":
    main(CLAIM)
