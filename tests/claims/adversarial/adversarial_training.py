"""Adversarial training beside plain training: the first stays right under attack, the second does not."""

from claims.claim import Claim, Effect
from claims.measures import of_the_shipped
from claims.proving import main
from claims.training import Arm, Setting

CLAIM = Claim(
    name="adversarial_training",
    says="Training on attacked inputs keeps accuracy under attack, which plain training loses.",
    settings=(
        Setting("mnist", train=2000, epochs=10, eps=0.1),
        Setting("cifar10", train=2000, epochs=10, eps=8 / 255),
    ),
    arms=(Arm("plain"), Arm("pgd_at", {"name": "pgd_at"})),
    measure=of_the_shipped,
    effects=(
        Effect(
            "robust accuracy of pgd_at above that of plain, points",
            lambda arms: arms["pgd_at"]["robust"] - arms["plain"]["robust"],
            {"mnist": 89.62, "cifar10": 47.04},
            "Madry et al., 2018, arXiv 1706.06083: white-box leaderboards of MadryLab/mnist_challenge (eps 0.3, 50 "
            "restarts) and cifar10_challenge (eps 8/255); plain networks fall to about 0 there",
        ),
    ),
    minutes=15,
)

if __name__ == "__main__":
    main(CLAIM)
