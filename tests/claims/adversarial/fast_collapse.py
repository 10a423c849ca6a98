"""Fast adversarial training with steps that are too long: it overfits to itself, and says so.

The short step is 1.25·eps; the long one the whole range, so that every attacked value lies on the ball's edge. Sizes
were looked for on one split of seed 0, until long steps collapsed within minutes.
"""

from claims.claim import Claim, Effect
from claims.measures import robust
from claims.proving import main
from claims.training import Arm, Setting, Trained

NETWORK = "claims.networks:one_layer"
SOURCE = (
    "Wong et al., 2020, arXiv 2001.03994, and the README of locuslab/fast_adversarial: with a step size that is too "
    "large PGD accuracy goes to 0 % within a couple of epochs; with 1.25·eps it is 46.06 on CIFAR-10"
)


def measure(run: Trained) -> dict[str, float]:
    """Robust accuracy on 1,000 test examples under PGD-50 with 2 restarts of the model after the last epoch; the
    greatest of the epochs' robust validation accuracies less the last; 100 if the run warned, else 0; and 100 if it
    warned where that accuracy ended below half of its greatest or did not where it ended above, else 0.
    """
    curve = [100 * value for value in run.curves["val/robust_accuracy"].values()]
    warned = "overfits to itself" in run.said
    return {
        "robust": robust(run.last, run.splits.test, run.threat),
        "fall": max(curve) - curve[-1],
        "warned": 100.0 * warned,
        "warned_rightly": 100.0 * (warned == (curve[-1] < max(curve) / 2)),
    }


CLAIM = Claim(
    name="fast_collapse",
    says="With too long a step fast adversarial training collapses; what watches it notices, and not where it holds.",
    settings=(
        Setting("mnist", train=5000, epochs=18, eps=0.22, model=NETWORK, warm=2),
        Setting("cifar10", train=5000, epochs=18, eps=12 / 255, model=NETWORK, width=8, warm=2),
    ),
    arms=(
        Arm("short steps", {"name": "fgsm_rs"}),
        Arm("long steps", {"name": "fgsm_rs", "fgsm_rs": {"step_size": 1.0}}),
    ),
    measure=measure,
    effects=(
        Effect(
            "fall of robust accuracy of long steps from the best epoch to the last, points",
            lambda arms: arms["long steps"]["fall"],
            {},
            SOURCE,
        ),
        Effect(
            "robust accuracy of short steps above that of long steps, points",
            lambda arms: arms["short steps"]["robust"] - arms["long steps"]["robust"],
            {"cifar10": 46.06},
            SOURCE,
        ),
        Effect(
            "runs that were warned of rightly, above half of them, points",
            lambda arms: sum(numbers["warned_rightly"] for numbers in arms.values()) / len(arms) - 50,
            {},
            SOURCE,
        ),
    ),
    minutes=16,
)

if __name__ == "__main__":
    main(CLAIM)
