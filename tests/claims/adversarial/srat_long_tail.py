"""SRAT beside reweighting alone, where some classes are rare: its term that parts features helps under attack."""

from claims.claim import Claim, Effect
from claims.measures import clean, survivors, worst_class
from claims.proving import main
from claims.training import Arm, Setting, Trained

SOURCE = (
    "Wang et al., 2021, arXiv 2107.13639: reweighting loses efficacy in adversarial training, and separable features "
    "mend it; the tables could not be read, so the direction alone is judged"
)
TAIL = 5  # of the ten classes, the rarer half


def measure(run: Trained) -> dict[str, float]:
    """Of the shipped model on 1,000 test examples, in which all classes are as frequent: clean accuracy, and robust
    accuracy under PGD-50 with 2 restarts, of all classes and of the five rarest.
    """
    test = run.splits.test
    right = survivors(run.best, test, run.threat)
    rare = test.label >= TAIL
    return {
        "clean": clean(run.best, test),
        "robust": 100 * float(right.double().mean()),
        "robust_tail": 100 * float(right[rare].double().mean()),
        "robust_worst_class": worst_class(right, test.label),
    }


def above(number: str, other: str, what: str) -> Effect:
    """How much more of a number srat has than another arm."""
    return Effect(
        f"{what} of srat above that of {other}, points",
        lambda arms: arms["srat"][number] - arms[other][number],
        {},
        SOURCE,
    )


CLAIM = Claim(
    name="srat_long_tail",
    says="On a long tail SRAT is more robust than adversarial training with reweighting alone, in all and in the tail.",
    settings=(
        Setting("mnist", train=3000, epochs=10, eps=0.1, long_tail=50),
        Setting("cifar10", train=4000, epochs=10, eps=8 / 255, batch_size=64, long_tail=50),
    ),
    arms=(
        Arm("reweighted", {"name": ["pgd_at", "class_balanced"]}),
        Arm("reweighted late", {"name": "srat", "srat": {"separation": 0.0}}),
        Arm("srat", {"name": "srat"}),
    ),
    measure=measure,
    effects=tuple(
        above(number, other, what)
        for other in ("reweighted", "reweighted late")
        for number, what in (("robust", "robust accuracy"), ("robust_tail", "robust accuracy in the rarer half"))
    ),
    minutes=18,
)

if __name__ == "__main__":
    main(CLAIM)
