"""AWP on adversarial training of few examples for long: what is learnt of them holds for others more often."""

from claims.claim import Claim, Effect
from claims.measures import robust
from claims.proving import main
from claims.training import Arm, Setting, Trained

SOURCE = (
    "Wu et al., 2020, arXiv 2004.05884, and the logs in csdongxian/AWP, PreActResNet-18 on CIFAR-10 at the end of 200 "
    "epochs: test robust accuracy 43.75 of AT, 54.30 of AT with AWP. The training part of the gap is logged there at "
    "perturbed weights, so that the rise of the test part stands for the fall of the gap, which is no less"
)

NETWORK = "claims.networks:one_layer"  # which overfits to few examples within minutes, where small_cnn does not
ATTACK = {"pgd": {"steps": 5}}


def measure(run: Trained) -> dict[str, float]:
    """Of the model after the last epoch: robust accuracy under PGD-50 with 2 restarts, on the training examples and on
    1,000 test examples, and the first less the second.
    """
    train, test = (robust(run.last, data, run.threat) for data in (run.splits.train, run.splits.test))
    return {"robust_train": train, "robust_test": test, "gap": train - test}


CLAIM = Claim(
    name="awp_gap",
    says="Perturbing weights while training narrows the gap between robust accuracy in training and on test.",
    settings=(
        Setting("mnist", train=500, epochs=30, eps=0.1, model=NETWORK, width=32, warm=3),
        Setting("cifar10", train=1500, epochs=25, eps=4 / 255, model=NETWORK, warm=3),
    ),
    arms=(
        Arm("pgd_at", {"name": "pgd_at", **ATTACK}),
        Arm("pgd_at,awp", {"name": ["pgd_at", "awp"], "awp": {"gamma": 0.01}, **ATTACK}),
    ),
    measure=measure,
    effects=(
        Effect(
            "gap of pgd_at above that of pgd_at,awp, points",
            lambda arms: arms["pgd_at"]["gap"] - arms["pgd_at,awp"]["gap"],
            {"cifar10": 10.55},
            SOURCE,
        ),
        Effect(
            "robust test accuracy of pgd_at,awp above that of pgd_at, points",
            lambda arms: arms["pgd_at,awp"]["robust_test"] - arms["pgd_at"]["robust_test"],
            {"cifar10": 10.55},
            SOURCE,
        ),
    ),
    minutes=18,
)

if __name__ == "__main__":
    main(CLAIM)
