"""Doubly robust weights beside uniform ones: the classes that fare worst under attack fare better."""

from claims.claim import Claim, Effect
from claims.measures import clean, survivors, worst_class
from claims.proving import main
from claims.training import Arm, Setting, Trained

SOURCE = (
    "Sow et al., 2024, arXiv 2308.00311: gains are largest in RA-Tail-30, the robust accuracy of the three worst of "
    "ten classes; the tables could not be read, so the direction alone is judged. poise's recipe is a practical form "
    "of the paper's algorithm"
)


def measure(run: Trained) -> dict[str, float]:
    """Of the shipped model on 1,000 test examples: clean accuracy, and robust accuracy under PGD-50 with 2 restarts, of
    all classes, of the worst, and of the three worst.
    """
    test = run.splits.test
    right = survivors(run.best, test, run.threat)
    return {
        "clean": clean(run.best, test),
        "robust": 100 * float(right.double().mean()),
        "robust_worst_class": worst_class(right, test.label),
        "robust_tail_30": worst_class(right, test.label, count=3),
    }


CLAIM = Claim(
    name="doubly_robust_worst_class",
    says="Weights of the worst distribution near the uniform one raise robust accuracy of the classes that fare worst.",
    settings=(
        Setting("mnist", train=1500, epochs=10, eps=0.1),
        Setting("cifar10", train=1500, epochs=10, eps=8 / 255),
    ),
    arms=(Arm("uniform", {"name": "pgd_at"}), Arm("doubly robust", {"name": ["pgd_at", "doubly_robust"]})),
    measure=measure,
    effects=(
        Effect(
            "robust accuracy of doubly robust in its worst class above that of uniform in its own, points",
            lambda arms: arms["doubly robust"]["robust_worst_class"] - arms["uniform"]["robust_worst_class"],
            {},
            SOURCE,
        ),
        Effect(
            "robust accuracy of doubly robust in its three worst classes above that of uniform in its own, points",
            lambda arms: arms["doubly robust"]["robust_tail_30"] - arms["uniform"]["robust_tail_30"],
            {},
            SOURCE,
        ),
    ),
    minutes=17,
)

if __name__ == "__main__":
    main(CLAIM)
